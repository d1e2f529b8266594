from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fpt_ray.config import load_sweep
from tests.containers.files import DOCKER, OVERLAYS, ROOT, rayjob_of, read_yaml, render
from tests.object_store import ObjectStore

COMPOSE = DOCKER / "compose.yaml"
WITH_STORE = DOCKER / "compose.s3.yaml"


def faults_of(file: Path) -> str:
    """What the Compose specification's schema says against a file; empty if nothing."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--output-format", "json"),
            *("--builtin-schema", "vendor.compose-spec", file),
        ],
        capture_output=True,
        text=True,
    )
    document = json.loads(done.stdout)
    assert (document["status"] == "ok") == (done.returncode == 0), done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.mark.parametrize("file", [COMPOSE, WITH_STORE], ids=lambda path: path.name)
def test_a_compose_file_is_valid(file: Path) -> None:
    assert faults_of(file) == ""


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("    healthcheck:\n", "    heathcheck:\n", "heathcheck"),
        ("      replicas: 2\n", "      replicas: [2]\n", "[2] is not of type"),
        ("{condition: service_healthy}", "{}", "'condition' is a required property"),
    ],
)
def test_a_mistake_in_a_compose_file_is_found(
    tmp_path: Path, good: str, bad: str, told: str
) -> None:
    text = COMPOSE.read_text()
    assert good in text
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text(text.replace(good, bad))
    assert told in faults_of(spoilt)


def test_a_head_two_workers_and_a_sweep_share_token_and_storage() -> None:
    services = read_yaml(COMPOSE)["services"]
    assert set(services) == {"head", "worker", "sweep"}
    assert services["worker"]["deploy"]["replicas"] == 2
    for service in services.values():
        environment = service["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        # Compose refuses to start where the variable is not set.
        assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
        (volume,) = service["volumes"]
        assert environment["FPT_RAY_STORAGE"].startswith(volume.partition(":")[2] + "/")
    # The dashboard takes jobs: it is for this host alone.
    assert services["head"]["ports"] == ["127.0.0.1:8265:8265"]


def test_a_service_starts_when_what_it_needs_is_healthy() -> None:
    checked, awaited = set(), set()
    for file in (COMPOSE, WITH_STORE):
        for name, service in read_yaml(file)["services"].items():
            if "healthcheck" in service:
                checked.add(name)
            for needed, how in service.get("depends_on", {}).items():
                awaited.add((name, needed, how["condition"]))
    assert checked == {"head", "worker", "store"}
    assert awaited == {
        ("worker", "head", "service_healthy"),
        ("sweep", "head", "service_healthy"),
        ("sweep", "worker", "service_healthy"),
        ("bucket", "store", "service_healthy"),
        ("head", "bucket", "service_completed_successfully"),
    }


def test_one_service_builds_the_image_and_nobody_looks_for_it_elsewhere() -> None:
    services = read_yaml(COMPOSE)["services"] | {
        "bucket": read_yaml(WITH_STORE)["services"]["bucket"]
    }
    assert [name for name, service in services.items() if "build" in service] == ["head"]
    assert len({service["image"] for service in services.values()}) == 1
    for name in set(services) - {"head"}:
        assert services[name]["pull_policy"] == "never"


def test_the_sweep_is_that_of_the_rayjob() -> None:
    (cpu,) = (overlay for overlay in OVERLAYS if overlay.name == "cpu")
    command = read_yaml(COMPOSE)["services"]["sweep"]["command"]
    program, script, *entrypoint = shlex.split(command)
    assert (program, script) == ("python", "submit.py")
    assert shlex.join(entrypoint) == rayjob_of(render(cpu))["spec"]["entrypoint"]
    assert load_sweep(ROOT / entrypoint[-1]).name == "cluster"


def test_no_password_is_in_the_files() -> None:
    for file in (COMPOSE, WITH_STORE):
        for name, value in re.findall(
            r"(\w*(?:TOKEN|PASSWORD|SECRET_ACCESS_KEY)): (.*)", file.read_text()
        ):
            assert value.startswith("${"), name
            assert ":?" in value, name


def test_the_bucket_is_made_and_making_it_again_is_no_error(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    services = read_yaml(WITH_STORE)["services"]
    storage = services["head"]["environment"]["FPT_RAY_STORAGE"]
    assert storage.startswith("s3://fpt-ray/")
    program, flag, code = services["bucket"]["command"]
    assert (program, flag) == ("python", "-c")
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
