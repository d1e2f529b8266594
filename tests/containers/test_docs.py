from __future__ import annotations

import re

import pytest

from tests.containers.files import OVERLAYS, ROOT, read_yaml

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_the_page_names_only_files_that_exist() -> None:
    paths = set(re.findall(r"\b(?:docker|sweeps)/[\w./-]*[\w]", PAGE))
    assert {"docker/compose.yaml", "docker/kuberay/claim.yaml", "sweeps/cluster.yaml"} <= paths
    made = {path for path in paths if path.startswith("docker/kuberay/overlays/mine")}
    assert made
    users = made | {"docker/.env", "docker/mine.yaml", "sweeps/OTHER.yaml"}
    assert {path for path in paths - users if not (ROOT / path).exists()} == set()


def test_the_page_links_to_what_exists() -> None:
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", PAGE) if "://" not in t]
    assert targets != []
    assert [t for t in targets if not (ROOT / "docs" / t).exists()] == []


@pytest.mark.parametrize("section", ["3. The image", "4. Containers on one host", "5. Kubernetes"])
def test_the_page_says_what_was_not_run(section: str) -> None:
    (text,) = re.findall(rf"^## {re.escape(section)}\n\n(.*)$", PAGE, flags=re.MULTILINE)
    assert text.startswith("*Not run")


def test_the_table_of_overlays_is_that_of_the_folders() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (volume|bucket) \|$", PAGE, flags=re.MULTILINE))
    kinds = {"volume": "../../components/pvc", "bucket": "../../components/s3"}
    assert set(rows) == {overlay.name for overlay in OVERLAYS}
    for overlay in OVERLAYS:
        components = read_yaml(overlay / "kustomization.yaml")["components"]
        assert kinds[rows[overlay.name]] in components


def test_the_command_that_makes_the_secret_is_that_of_the_component() -> None:
    component = (
        ROOT / "docker" / "kuberay" / "components" / "s3" / "kustomization.yaml"
    ).read_text()
    literals = [set(re.findall(r"--from-literal=(\w+)=", text)) for text in (PAGE, component)]
    assert literals[0] == {"FPT_RAY_STORAGE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert literals[1] == literals[0] | {"AWS_ENDPOINT_URL"}
