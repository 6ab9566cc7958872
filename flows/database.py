"""MLflow's database in the workspace, made whole or not at all."""

import fcntl
import os
from pathlib import Path

from flows.workspace import private

FILE = "mlflow.db"


def address(root: Path) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if the user set it, otherwise the workspace's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{private(root, FILE)}"


def make(root: Path) -> None:
    """Makes the workspace's database if there is none.

    MLflow makes it table by table: two processes at once, or a kill in between, leave one that never works again. So
    it is made by one process under another name and renamed when complete.
    """
    path, partial = private(root, FILE), private(root, f".{FILE}.partial")
    if path.exists() or "MLFLOW_TRACKING_URI" in os.environ:
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    with private(root, "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        partial.unlink(missing_ok=True)
        engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{partial}")
        _initialize_tables(engine)
        engine.dispose()
        partial.replace(path)
