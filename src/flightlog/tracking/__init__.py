"""The client and URI verbs under the path that MLflow scripts import them from."""

from flightlog.client import Client, MlflowClient
from flightlog.producer.fluent import get_registry_uri, get_tracking_uri, is_tracking_uri_set, set_registry_uri, set_tracking_uri

__all__ = ["Client", "MlflowClient", "get_registry_uri", "get_tracking_uri", "is_tracking_uri_set", "set_registry_uri", "set_tracking_uri"]
