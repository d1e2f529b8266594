"""Versions and names that stand in more than one file agree."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import fpt_ray
from tests.containers.files import (
    DOCKER,
    KUBERAY,
    OVERLAYS,
    ROOT,
    load_script,
    rayjob_of,
    read_yaml,
    render,
)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
ARGUMENTS = dict(
    text.split("=", 1)
    for name, text in load_script("rehearse").instructions(DOCKERFILE)
    if name == "ARG"
)
CUDA_INDEX = re.compile(r"https://download\.pytorch\.org/whl/(cu\d+)")


def test_the_python_of_the_image_is_one_that_the_package_allows() -> None:
    assert ARGUMENTS["PYTHON"] in SpecifierSet(PROJECT["requires-python"])
    readme = (ROOT / "README.md").read_text()
    assert f"tested on Linux with Python {ARGUMENTS['PYTHON']}" in readme


def test_the_ray_of_the_image_is_that_of_the_rayjob_and_of_the_package() -> None:
    (ray,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "ray")
    assert ARGUMENTS["RAY"] in ray.specifier
    base = rayjob_of(render(KUBERAY / "base"))
    assert base["spec"]["rayClusterSpec"]["rayVersion"] == ARGUMENTS["RAY"]
    # KubeRay's tokens need Ray 2.52; the health check that compose.yaml asks for came with 2.53.
    assert ARGUMENTS["RAY"] in SpecifierSet(">=2.53")


def test_the_image_has_the_packages_version() -> None:
    assert ARGUMENTS["VERSION"] == fpt_ray.__version__


def test_tags_say_the_version_and_what_torch_computes_on() -> None:
    assert ARGUMENTS["TORCH_INDEX"].endswith("/whl/cpu")
    (cuda,) = set(CUDA_INDEX.findall(DOCKERFILE))
    expected = {"cpu": "cpu", "gpu": cuda, "autoscaling": cuda}
    for overlay in OVERLAYS:
        (image,) = read_yaml(overlay / "kustomization.yaml")["images"]
        assert image["name"] == "fpt-ray"
        assert image["newTag"] == f"{fpt_ray.__version__}-{expected[overlay.name]}"
    for file in ("compose.yaml", "compose.s3.yaml"):
        services = read_yaml(DOCKER / file)["services"].values()
        own = {s["image"] for s in services if s.get("image", "").startswith("fpt-ray:")}
        assert own == {f"fpt-ray:{fpt_ray.__version__}-cpu"}


def test_commands_name_the_same_tags() -> None:
    (cuda,) = set(CUDA_INDEX.findall(DOCKERFILE))
    for text in (DOCKERFILE, (ROOT / "docs" / "cluster.md").read_text()):
        tags = set(re.findall(r"fpt-ray:(\d+\.\d+\.\d+-\w+)", text))
        assert tags == {f"{fpt_ray.__version__}-cpu", f"{fpt_ray.__version__}-{cuda}"}
        assert set(CUDA_INDEX.findall(text)) == {cuda}


@pytest.mark.parametrize("other", ["compose.s3.yaml"])
def test_images_of_others_have_a_tag(other: str) -> None:
    for service in read_yaml(DOCKER / other)["services"].values():
        assert "image" not in service or re.search(r":[^:/]*\d", service["image"])
