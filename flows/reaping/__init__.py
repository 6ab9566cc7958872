"""Closing what a kill left open: flow runs in Prefect, records in MLflow, trials in Optuna."""
