"""Strict validation of manifests: KubeRay's resources and Kubernetes' own."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.containers.files import Document, pod_templates, read_yaml


def faults_of(document: Document) -> list[str]:
    """List what a manifest's schema says against it, pod templates of a RayJob included."""
    if document["kind"] != "RayJob":
        return _core_faults(document)
    faults = [f"{fault.json_path}: {fault.message}" for fault in _rayjob().iter_errors(document)]
    for name, template in pod_templates(document).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        faults += [f"{name}: {fault}" for fault in _core_faults(pod)]
    return faults


def _core_faults(document: Document) -> list[str]:
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except jsonschema.ValidationError as fault:
        return [f"{fault.json_path}: {fault.message}"]
    return []


@cache
def _rayjob() -> jsonschema.protocols.Validator:
    folder = os.environ.get("KUBERAY_CRD_DIR")
    if not folder:
        pytest.skip("needs KubeRay's resource definitions; KUBERAY_CRD_DIR names no folder")
    versions = read_yaml(Path(folder) / "ray.io_rayjobs.yaml")["spec"]["versions"]
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == "v1")
    return jsonschema.Draft202012Validator(_strict(schema))


def _strict(schema: Any) -> Any:
    """Turn an OpenAPI schema into one for JSON that takes no field that it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: _strict(v) for k, v in schema.items() if k != "x-kubernetes-validations"}
    if schema.get("x-kubernetes-int-or-string") is True:
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
