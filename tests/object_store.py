"""An S3-compatible object store on loopback, which checks its keys: moto's server."""

from __future__ import annotations

import contextlib
import json
import logging
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

_ANYTHING = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A store with one bucket and one user, who may do anything there.

    Attributes:
        url: of the server.
        bucket: the bucket.
        key_id: of the user.
        secret: of the user.
    """

    url: str
    bucket: str
    key_id: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which every process finds the store and its keys."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }


@contextlib.contextmanager
def running_store(bucket: str) -> Iterator[ObjectStore]:
    """Run a store in a thread of this process; a process can have one only.

    Args:
        bucket: the name of its bucket.
    """
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        anyone = {"aws_access_key_id": "anyone", "aws_secret_access_key": "anyone"}
        place = {"endpoint_url": url, "region_name": "us-east-1", **anyone}
        boto3.client("s3", **place).create_bucket(Bucket=bucket)
        users = boto3.client("iam", **place)
        users.create_user(UserName="user")
        policy = json.dumps({"Version": "2012-10-17", "Statement": [_ANYTHING]})
        users.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=policy)
        key = users.create_access_key(UserName="user")["AccessKey"]
        _check_keys_from_now_on(url)
        yield ObjectStore(url, bucket, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        server.stop()


def _check_keys_from_now_on(url: str) -> None:
    request = urllib.request.Request(
        f"{url}/moto-api/reset-auth",
        data=b"0",
        method="POST",
        headers={"Content-Type": "text/plain"},
    )
    urllib.request.urlopen(request, timeout=10).close()
