"""The MLflow server: runs and models in PostgreSQL, artifacts in S3 through the server, a password for everyone."""

import sys
from importlib.metadata import version

from infra.home import HOST, Home
from infra.postgresql import PostgreSQL
from infra.seaweedfs import S3
from infra.service import ProcessService, address, answers

USER = "secateur"
AUTH = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {uri}
admin_username = {user}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class MLflow(ProcessService):
    """The tracking server and registry."""

    name = "mlflow"

    def __init__(self, home: Home, database: PostgreSQL, store: S3) -> None:
        """Keeps its runs in `database` and its artifacts in `store`, which must be up when it starts."""
        super().__init__(home)
        self.database = database
        self.store = store

    @property
    def url(self) -> str:
        """For MLFLOW_TRACKING_URI."""
        return address(self.home, self.name)

    def is_up(self) -> bool:
        """Whether it answers."""
        return answers(f"{self.url}/health")

    def command(self) -> list[str]:
        """`mlflow server`; every password it needs is in a file."""
        return [
            *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
            *("--host", HOST, "--port", str(self.home.port(self.name)), "--workers", "1"),
            *("--backend-store-uri", self.database.url("mlflow")),
            *("--artifacts-destination", "s3://mlflow", "--serve-artifacts"),
        ]

    def environment(self) -> dict[str, str]:
        """Where those files are."""
        return {
            "PGPASSFILE": str(self.database.passwords),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.store.credentials),
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": self.store.url,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.home.place("secrets", "mlflow-auth.ini")),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.home.secret("mlflow-forms"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def prepare(self) -> None:
        """The database in the form of the installed version; the file that says who may log in."""
        text = AUTH.format(uri=self.database.url("mlflow_auth"), user=USER, password=self.home.secret("mlflow"))
        self.home.private(self.home.place("secrets", "mlflow-auth.ini"), text)
        done = self.directory() / "migrated"
        if not done.is_file() or done.read_text(encoding="utf-8") != version("mlflow"):
            self.run([sys.executable, "-m", "mlflow", "db", "upgrade", self.database.url("mlflow")])
            done.write_text(version("mlflow"), encoding="utf-8")

    def client(self) -> dict[str, str]:
        """What a client's environment must say."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.home.secret("mlflow"),
        }
