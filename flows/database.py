"""MLflow's database in the workspace, made whole or not at all."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.redact import redacted
from flows.workspace import private
from tasks.core.errors import EnvironmentFault, PassingFault

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "mlflow.db"
PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")
"""MLflow's names for what its server may get over."""


class Away(PassingFault):
    """The tracking server, or what it stands on, does not answer now."""


def address(root: Path) -> str:
    """The tracking URI: MLFLOW_TRACKING_URI if the user set it, otherwise the workspace's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{private(root, FILE)}"


def connect(root: Path) -> "MlflowClient":
    """A client of the tracking server and of the registry, which may be another one."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs with a traceback it raises too
    make(root)
    uri = address(root)
    return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)


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


@contextmanager
def asking(uri: str) -> Iterator[None]:
    """MLflow looks a `models:/` source up where the environment says, whatever its client was told."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


@contextmanager
def words(uri: str) -> Iterator[None]:
    """Says what MLflow has to say in one sentence."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as error:
        kind = Away if error.error_code in PASSING else EnvironmentFault
        raise kind(redacted(f"MLflow ({uri}) failed: {error.message}; results in DVC are complete")) from error
    except RequestException as error:  # of an artifact, which MLflow passes on as it is
        raise Away(redacted(f"MLflow ({uri}) failed: {error}; results in DVC are complete")) from error
