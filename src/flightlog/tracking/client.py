"""The client under the longer path that MLflow scripts import it from."""

from flightlog.client import Client, MlflowClient

__all__ = ["Client", "MlflowClient"]
