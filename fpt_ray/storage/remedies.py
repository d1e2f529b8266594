"""What a user can do about a place that refuses: read from what pyarrow says of object stores."""

from __future__ import annotations

import re

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: they must list, read and write there"
_REMEDIES = {
    "NO_SUCH_BUCKET": "create the bucket, or correct its name",
    "ACCESS_DENIED": _KEYS,
    "INVALID_ACCESS_KEY_ID": _KEYS,
    "SIGNATURE_DOES_NOT_MATCH": _KEYS,
    "NETWORK_CONNECTION": "check the network, and AWS_ENDPOINT_URL or the URI's endpoint_override",
}
"""The name that the AWS SDK gives an error, in pyarrow's text, to what mends it."""


_NO_BUCKET = re.compile(r"Bucket '([^']+)' not found")
"""What pyarrow says where it asks Amazon for a bucket's region, before it opens the store."""


def missing_bucket(error: Exception) -> str | None:
    """Name the bucket that an error says does not exist; None where it says something else."""
    found = _NO_BUCKET.search(str(error))
    return found and found[1]


def remedy(error: Exception) -> str | None:
    """Say what mends an error of a filesystem; None where pyarrow's text does not tell."""
    text = str(error)
    return next((what for name, what in _REMEDIES.items() if f"AWS Error {name}" in text), None)
