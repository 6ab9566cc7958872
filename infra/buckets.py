"""The buckets of an S3 server, made if they are not there.

python -m infra.buckets, with AWS_ENDPOINT_URL_S3 and credentials in the environment
"""

import time
from typing import Any

from infra.service import PATIENCE
from tasks.core.errors import EnvironmentFault

BUCKETS = ("mlflow", "dvc")


def make(client: Any) -> None:
    """Makes them; a server that was just started needs a moment before it can write.

    Args:
        client: boto3's, of S3.

    Raises:
        EnvironmentFault: It cannot be written to.
    """
    from botocore.exceptions import BotoCoreError, ClientError

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
                raise EnvironmentFault(f"the S3 server cannot be written to: {error}") from error
            time.sleep(0.3)


if __name__ == "__main__":
    import boto3

    make(boto3.client("s3"))
