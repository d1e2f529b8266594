from __future__ import annotations

from types import SimpleNamespace

import pytest

from fpt_ray.errors import RunDirectoryError
from fpt_ray.storage import Lease, RunDirectory, directory, lease
from fpt_ray.storage.remedies import remedy
from tests.object_store import ObjectStore


@pytest.fixture
def store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The store as this process finds it: by the environment alone."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return object_store


@pytest.fixture
def run(store: ObjectStore, request: pytest.FixtureRequest) -> RunDirectory:
    return RunDirectory.below(f"s3://{store.bucket}/{request.node.name}", "demo")


def test_a_bucket_holds_a_run_directory(run: RunDirectory) -> None:
    run.probe()
    assert not run.exists()
    run.write_bytes("trials/a/state.safetensors", b"\0\1")
    run.write_json("resolved.json", {"seed": 1})
    assert run.read_bytes("trials/a/state.safetensors") == b"\0\1"
    assert run.read_json("resolved.json") == {"seed": 1}
    assert run.directories("trials") == ["a"]
    assert run.entries() == ["resolved.json", "trials"]
    run.delete("resolved.json")
    assert run.read_bytes("resolved.json") is None


def test_the_store_may_be_named_in_the_uri(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    storage = f"s3://{store.bucket}/uri?endpoint_override={store.url}"
    run = RunDirectory.below(storage, "demo")
    run.probe()
    run.write_bytes("log", b"1")
    assert run.read_bytes("log") == b"1"


def test_a_lease_in_a_bucket_is_held_and_given_back(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.05)
    with Lease(run) as held:
        held.check()
        with pytest.raises(RunDirectoryError, match="another driver is using"), Lease(run):
            pass
    assert not run.exists(RunDirectory.LEASE)


@pytest.mark.usefixtures("store")
def test_a_missing_bucket_is_named() -> None:
    run = RunDirectory("s3://nowhere/runs/demo")
    told = r"s3://nowhere/runs/demo: there is no bucket nowhere\n  fix: create it, correct its name"
    with pytest.raises(RunDirectoryError, match=told):
        run.probe()
    with pytest.raises(RunDirectoryError, match="fix: create the bucket, or correct its name; or"):
        run.write_bytes("log", b"")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_told(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong")
    run = RunDirectory(f"s3://{store.bucket}/runs/demo")
    told = "fix: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: they must list, read"
    for refused in (run.probe, run.entries, lambda: run.write_bytes("log", b"")):
        with pytest.raises(RunDirectoryError, match=told):
            refused()


def test_a_bucket_that_amazon_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Amazon:
        """What pyarrow does where no endpoint is given: it looks for the bucket's region first."""

        @staticmethod
        def from_uri(uri: str) -> None:
            raise OSError("Bucket 'nowhere' not found")

    monkeypatch.setattr(directory, "fs", SimpleNamespace(FileSystem=Amazon))
    told = r"s3://nowhere/runs: there is no bucket nowhere\n  fix: create it, or correct its name"
    with pytest.raises(RunDirectoryError, match=told):
        RunDirectory("s3://nowhere/runs")


def test_a_store_that_does_not_answer_is_told() -> None:
    # The text of pyarrow 26, after six seconds of attempts.
    text = "When getting information for bucket 'b': AWS Error NETWORK_CONNECTION during HeadBucket"
    assert remedy(OSError(text)) == (
        "check the network, and AWS_ENDPOINT_URL or the URI's endpoint_override"
    )
    assert remedy(OSError("No space left on device")) is None


def test_what_is_no_object_store_is_not_asked() -> None:
    RunDirectory("mock:///runs/x").probe()
