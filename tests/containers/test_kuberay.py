from __future__ import annotations

import copy
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fpt_ray.config import load_sweep
from tests.containers.files import (
    KUBERAY,
    OVERLAYS,
    ROOT,
    Document,
    pod_templates,
    rayjob_of,
    read_yaml,
    render,
)
from tests.containers.schemas import faults_of

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)


def test_the_overlays_are_those_that_are_documented() -> None:
    assert [path.name for path in OVERLAYS] == ["autoscaling", "cpu", "gpu"]


@every_overlay
def test_an_overlay_is_valid(overlay: Path) -> None:
    documents = render(overlay)
    assert {document["kind"] for document in documents} == {"RayJob"}
    assert [faults_of(document) for document in documents] == [[]]


def test_the_base_is_valid() -> None:
    assert faults_of(rayjob_of(render(KUBERAY / "base"))) == []


def test_the_claim_is_valid_and_what_overlays_mount() -> None:
    claim = read_yaml(KUBERAY / "claim.yaml")
    assert faults_of(claim) == []
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    templates = pod_templates(rayjob_of(render(KUBERAY / "overlays" / "cpu")))
    for name in ("head", "workers"):
        (volume,) = (v for v in templates[name]["spec"]["volumes"] if v["name"] == "results")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_reader_of_the_volume_is_valid() -> None:
    reader = read_yaml(KUBERAY / "reader.yaml")
    assert faults_of(reader) == []
    (volume,) = reader["spec"]["volumes"]
    claim = read_yaml(KUBERAY / "claim.yaml")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


# A mistake is found, wherever it is


def misspell_entrypoint(job: Document) -> None:
    job["spec"]["entrypiont"] = job["spec"].pop("entrypoint")


def misspell_authentication(job: Document) -> None:
    job["spec"]["rayClusterSpec"]["authOptions"] = {"mode": "tokne"}


def misspell_in_a_pod(job: Document) -> None:
    container = pod_templates(job)["head"]["spec"]["containers"][0]
    container["volumeMount"] = container.pop("volumeMounts")


def forget_the_group_name(job: Document) -> None:
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["groupName"]


def forget_the_containers(job: Document) -> None:
    del pod_templates(job)["submitter"]["spec"]["containers"]


def write_a_number_for_a_list(job: Document) -> None:
    pod_templates(job)["workers"]["spec"]["containers"][0]["resources"]["limits"] = 4


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (misspell_entrypoint, "entrypiont"),
        (misspell_authentication, "tokne"),
        (misspell_in_a_pod, "volumeMount"),
        (forget_the_group_name, "'groupName' is a required property"),
        (forget_the_containers, "'containers' is a required property"),
        (write_a_number_for_a_list, "4 is not of type"),
    ],
)
def test_a_mistake_in_a_rayjob_is_found(spoil: Callable[[Document], None], told: str) -> None:
    job = copy.deepcopy(rayjob_of(render(KUBERAY / "overlays" / "cpu")))
    spoil(job)
    assert any(told in fault for fault in faults_of(job)), faults_of(job)


def test_a_mistake_in_a_claim_is_found() -> None:
    claim = read_yaml(KUBERAY / "claim.yaml")
    claim["spec"]["accesModes"] = claim["spec"].pop("accessModes")
    assert any("accesModes" in fault for fault in faults_of(claim))


# What the schema cannot say


@every_overlay
def test_every_pod_may_run_where_pods_are_restricted(overlay: Path) -> None:
    for name, template in pod_templates(rayjob_of(render(overlay))).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 1000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert {"requests", "limits"} <= set(container["resources"]), name


@every_overlay
def test_only_what_talks_to_kubernetes_gets_its_token(overlay: Path) -> None:
    job = rayjob_of(render(overlay))
    given = {
        name
        for name, template in pod_templates(job).items()
        if template["spec"]["automountServiceAccountToken"]
    }
    autoscales = job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling", False)
    assert given == ({"head"} if autoscales else set())


@every_overlay
def test_the_driver_finds_the_storage_and_the_workers_can_write_there(overlay: Path) -> None:
    templates = pod_templates(rayjob_of(render(overlay)))
    head, worker = (templates[name]["spec"]["containers"][0] for name in ("head", "workers"))
    secret = {"secretRef": {"name": "fpt-ray-s3"}}
    if secret in head["envFrom"]:
        assert secret in worker["envFrom"]
    else:
        (storage,) = (e["value"] for e in head["env"] if e["name"] == "FPT_RAY_STORAGE")
        for container in (head, worker):
            (mount,) = (m["mountPath"] for m in container["volumeMounts"] if m["name"] == "results")
            assert storage.startswith(f"{mount}/")


@every_overlay
def test_the_entrypoint_runs_a_valid_sweep_of_the_image(overlay: Path) -> None:
    program, dash_m, module, file, *flags = shlex.split(
        rayjob_of(render(overlay))["spec"]["entrypoint"]
    )
    assert (program, dash_m, module) == ("python", "-m", "fpt_ray.sweep")
    assert set(flags[::2]) <= {"--set"}
    sweep = load_sweep(ROOT / file, flags[1::2])
    assert {arm.settings.data.mode for arm in sweep.arms} == {"streaming"}
    # KubeRay pastes the entrypoint into a command of bash, unquoted.
    assert not set("$&;|<>*?'\"\\") & set(" ".join([file, *flags]))


@every_overlay
def test_workers_have_room_for_an_engine_beside_ray_data(overlay: Path) -> None:
    job = rayjob_of(render(overlay))
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = pod_templates(job)["workers"]["spec"]["containers"][0]["resources"]["limits"]
    assert int(limits["cpu"]) >= 2
    # The driver looks at the first worker to see which devices there are.
    assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_a_gpu_is_asked_for_where_the_sweep_needs_one() -> None:
    for overlay in OVERLAYS:
        job = rayjob_of(render(overlay))
        limits = pod_templates(job)["workers"]["spec"]["containers"][0]["resources"]["limits"]
        has_gpu = "nvidia.com/gpu" in limits
        assert has_gpu == (overlay.name != "cpu")
        assert has_gpu == ("resources.device=cuda" in job["spec"]["entrypoint"])


def test_preemptible_machines_are_for_workers_only() -> None:
    templates = pod_templates(rayjob_of(render(KUBERAY / "overlays" / "autoscaling")))
    terms = {
        name: templates[name]["spec"]["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        for name in ("head", "workers")
    }
    wanted = {e["key"] for term in terms["workers"] for e in term["matchExpressions"]}
    assert all(len(term["matchExpressions"]) == 1 for term in terms["workers"])
    (avoided,) = terms["head"]
    assert {e["key"] for e in avoided["matchExpressions"]} == wanted
    assert {e["operator"] for e in avoided["matchExpressions"]} == {"NotIn", "DoesNotExist"}


def test_no_secret_is_in_the_files() -> None:
    for path in KUBERAY.rglob("*.yaml"):
        text = path.read_text()
        assert "kind: Secret" not in text, path
        assert not re.search(r"(?i)^\s*[^#\n]*(secret_access_key|auth_token)\s*[:=]", text, re.M), (
            path
        )


# Copy an overlay, edit three lines, apply


def edited(text: str, mark: str, old: str, new: str) -> str:
    """Change the line with a mark, of which there is exactly one."""
    (line,) = (line for line in text.splitlines() if f"# {mark}:" in line)
    assert old in line
    return text.replace(line, line.replace(old, new))


@every_overlay
def test_a_copied_overlay_with_three_lines_edited_is_valid(overlay: Path, tmp_path: Path) -> None:
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    mine = tmp_path / "kuberay" / "overlays" / "mine"
    shutil.copytree(overlay, mine)
    file = mine / "kustomization.yaml"
    text = file.read_text()
    kept, other = ("pvc", "s3") if "components/pvc" in text else ("s3", "pvc")
    text = edited(text, "1", "registry.example.com/fpt-ray", "example.org/me/fpt-ray")
    text = edited(text, "2", f"components/{kept}", f"components/{other}")
    text = edited(text, "3", "sweeps/cluster.yaml", "mine/my_sweep.yaml")
    # The lines at the end of the file, for a sweep file that the image does not have.
    text = re.sub(r"^# (configMapGenerator:|  )", r"\1", text, flags=re.M)
    file.write_text(text)
    shutil.copy(ROOT / "sweeps" / "smoke.yaml", mine / "my_sweep.yaml")

    documents = render(mine)
    assert [faults_of(document) for document in documents] == [[], []]
    (sweeps,) = (document for document in documents if document["kind"] == "ConfigMap")
    assert sweeps["data"]["my_sweep.yaml"] == (ROOT / "sweeps" / "smoke.yaml").read_text()
    job = rayjob_of(documents)
    assert "mine/my_sweep.yaml" in job["spec"]["entrypoint"]
    images = {
        container["image"].partition(":")[0]
        for template in pod_templates(job).values()
        for container in template["spec"]["containers"]
    }
    assert images == {"example.org/me/fpt-ray"}
    (volume,) = (v for v in pod_templates(job)["head"]["spec"]["volumes"] if v["name"] == "mine")
    assert volume["configMap"]["name"] == sweeps["metadata"]["name"]
    head = pod_templates(job)["head"]["spec"]["containers"][0]
    (mount,) = (m for m in head["volumeMounts"] if m["name"] == "mine")
    # Beside the sweeps of the image, whose WORKDIR is that of the driver.
    assert mount["mountPath"] == "/home/ray/mine"
