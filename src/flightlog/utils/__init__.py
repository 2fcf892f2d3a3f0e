"""Paths that MLflow scripts import constants from."""
