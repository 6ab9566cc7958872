"""What libraries read from the environment when imported, so that they neither chat nor phone."""

import os
from pathlib import Path

from flows.workspace import private

DEFAULTS = {
    "DO_NOT_TRACK": "true",  # the only spelling that MLflow accepts
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
}


def quiet(root: Path) -> None:
    """Sets the variables; what the user set stays. Call it before one of them is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_API_URL" not in os.environ:  # a server of the user's may need the key in the user's own PREFECT_HOME
        os.environ.setdefault("PREFECT_HOME", str(private(root, "prefect")))
