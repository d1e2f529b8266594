"""The files of docker/ as tests read them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
KUBERAY = DOCKER / "kuberay"
OVERLAYS = sorted(path.parent for path in KUBERAY.glob("overlays/*/kustomization.yaml"))

Document = dict[str, Any]


def load_script(name: str) -> ModuleType:
    """Import a script of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_yaml(text: str) -> list[Document]:
    """Read the documents of a YAML text."""
    return [document for document in YAML(typ="safe").load_all(text) if document]


def read_yaml(path: Path) -> Document:
    """Read a YAML file of one document."""
    (document,) = load_yaml(path.read_text(encoding="utf-8"))
    return document


def render(folder: Path) -> list[Document]:
    """Render a Kustomize folder as ``kubectl apply -k`` would."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, whose `kustomize` renders overlays; there is none on PATH")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_yaml(done.stdout)


def rayjob_of(documents: list[Document]) -> Document:
    """Find the only RayJob."""
    (rayjob,) = (document for document in documents if document["kind"] == "RayJob")
    return rayjob


def pod_templates(rayjob: Document) -> dict[str, Document]:
    """List a RayJob's pod templates by what they are for."""
    spec = rayjob["spec"]
    cluster = spec["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]
    workers = {
        group.get("groupName", "nameless"): group["template"]
        for group in cluster["workerGroupSpecs"]
    }
    return {"submitter": spec["submitterPodTemplate"], "head": head, **workers}
