"""The driver's parts that need no cluster: edits, devices, progress, plan and exit codes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError
from rich.console import Console

from fpt_ray.config import Resources, Sweep, load_sweep
from fpt_ray.errors import FptRayError, SweepFileError
from fpt_ray.orchestrate import checks, cluster
from fpt_ray.orchestrate.checks import check_arms
from fpt_ray.orchestrate.engines import describe_engines
from fpt_ray.orchestrate.progress import Progress, arm_line, remaining_steps
from fpt_ray.orchestrate.resolved import check_edits, resolve
from fpt_ray.orchestrate.tuning import describe_failure
from fpt_ray.plan import plan_sweep, rungs_of
from fpt_ray.storage import RunDirectory
from tests.integration.test_search import ASHA, GRID, drive, sweep_with

ROOT = Path(__file__).parents[2]
RUN = RunDirectory("/nowhere/demo")


def edit(former: Sweep, now: Sweep) -> None:
    check_edits(resolve(former), resolve(now), RUN, "demo.yaml")


def compare(**labels: Any) -> dict[str, Any]:
    return {"gain": {name: {"model.orthogonal_gain": gain} for name, gain in labels.items()}}


def tune(rates: list[float], **changes: Any) -> dict[str, Any]:
    return {"space": {"training.learning_rate": {"grid": rates}}, **changes}


RANDOM: dict[str, Any] = {
    "space": {"training.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    "searcher": {"name": "random", "num_trials": 3},
}
ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an arm": ({"compare": compare(a=1.0)}, {"compare": compare(a=1.0, b=2.0)}),
    "a grid value": ({"tune": tune([1e-3])}, {"tune": tune([1e-2, 1e-3])}),
    "trials": (
        {"tune": RANDOM},
        {"tune": RANDOM | {"searcher": {"name": "random", "num_trials": 5}}},
    ),
    "final seeds": ({"final": {"seeds": 2}}, {"final": {"seeds": 3}}),
    "steps": (
        {"training": {"max_steps": 18, "eval_every": 2}},
        {"training": {"max_steps": 36, "eval_every": 2}},
    ),
    "resources": ({}, {"resources": {"pack": 2}, "failures": {"max_failures": 0}}),
    "the place of the data": ({}, {"data": {"dir": "/elsewhere"}, "storage": "elsewhere"}),
    "the reference": ({}, {"reference": {"gain": "hopeless"}, "loggers": []}),
}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "fewer arms": (
        {"compare": compare(a=1.0, b=2.0)},
        {"compare": compare(a=1.0)},
        "arm b is no longer in the file: it contradicts",
    ),
    "other settings": (
        {"training": {"eval_every": 2, "max_steps": 18}},
        {"training": {"eval_every": 2, "max_steps": 18, "batch_size": 3}},
        "training.batch_size: 16 -> 3",
    ),
    "a lost grid value": ({"tune": tune([1e-3, 1e-2])}, {"tune": tune([1e-3])}, "grid"),
    "fewer seeds": ({"final": {"seeds": 3}}, {"final": {"seeds": 2}}, "final.seeds: 3 -> 2"),
    "fewer steps": (
        {"training": {"max_steps": 36, "eval_every": 2}},
        {"training": {"max_steps": 18, "eval_every": 2}},
        "training.max_steps: 36 -> 18",
    ),
    "another seed": ({"seed": 1}, {"seed": 2}, "seed: 1 -> 2"),
    "another scheduler": (
        {"tune": {"space": GRID}},
        {"tune": {"space": GRID, "scheduler": ASHA}},
        "tune.scheduler.name: 'fifo' -> 'asha'",
    ),
    "no search": ({"tune": {"space": GRID}}, {"tune": None}, "tune"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_more_of_the_same_is_accepted(case: str) -> None:
    former, now = ACCEPTED[case]
    edit(sweep_with(**former), sweep_with(**now))


@pytest.mark.parametrize("case", REFUSED)
def test_contradictions_are_refused_with_their_difference(case: str) -> None:
    former, now, difference = REFUSED[case]
    with pytest.raises(SweepFileError) as refusal:
        edit(sweep_with(**former), sweep_with(**now))
    assert difference in str(refusal.value)
    assert "contradicts the trials that /nowhere/demo holds" in str(refusal.value)
    assert "use another name (name: demo_2)" in str(refusal.value)


def test_a_difference_that_all_arms_share_is_told_once() -> None:
    with pytest.raises(SweepFileError) as refusal:
        edit(sweep_with(), sweep_with(task={"name": "bit_xor", "length": 3}))
    assert [p.what.split(" contr")[0] for p in refusal.value.problems] == ["task.length: 5 -> 3"]


def test_an_unchanged_sweep_is_no_edit() -> None:
    edit(sweep_with(), sweep_with())


def machines(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    """Imitate a cluster; a machine that is gone does not count."""
    found = [{"Alive": True, "Resources": each} for each in resources]
    gone = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*found, gone])


@pytest.mark.parametrize(
    ("wanted", "resources", "expected"),
    [
        ("auto", {"CPU": 8.0, "GPU": 4.0}, "cuda"),
        ("auto", {"CPU": 8.0}, "cpu"),
        ("cpu", {"CPU": 8.0, "GPU": 4.0}, "cpu"),
        ("cuda", {"CPU": 8.0, "GPU": 4.0}, "cuda"),
    ],
)
def test_a_sweep_uses_the_devices_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, resources: dict[str, float], expected: str
) -> None:
    machines(monkeypatch, {"CPU": 2.0}, resources)
    assert cluster.device_kind(Resources(device=wanted)) == expected


def test_gpus_that_the_cluster_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machines(monkeypatch, {"CPU": 8.0})
    with pytest.raises(FptRayError, match=r"asks for GPUs and the cluster has none\n  fix: resour"):
        cluster.device_kind(Resources(device="cuda"))


@pytest.mark.parametrize(("device", "cpus"), [("cpu", 1.0), ("auto", 0.0)])
def test_streams_without_a_cpu_of_their_own_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: Any, cpus: float
) -> None:
    enough = {"CPU": cpus + 1, "GPU": 1.0}
    machines(monkeypatch, {"CPU": cpus, "GPU": 1.0}, enough)
    cluster.device_kind(Resources(device=device), streams=True)
    machines(monkeypatch, {"CPU": cpus, "GPU": 1.0})
    with pytest.raises(FptRayError, match="no machine has two CPUs") as error:
        cluster.device_kind(Resources(device=device), streams=True)
    assert "data.mode: materialized" in str(error.value)


def pool_status(*engines: tuple[str, int | None], capacity: int = 8) -> dict[str, Any]:
    described = [{"device": device, "size": size} for device, size in engines]
    return {"begun": True, "capacity": capacity, "engines": described, "warnings": []}


def test_progress_says_how_many_trials_train_at_a_time() -> None:
    assert describe_engines(pool_status(("cpu", None))) == ""
    one = describe_engines(pool_status(("cpu", 8)))
    assert one == "8 trials at a time on cpu (packs of 8)"
    four = describe_engines(pool_status(*[("cuda", 8)] * 3, ("cuda", 16), capacity=40))
    assert four == "40 trials at a time on 4 x cuda (packs of 8 to 16)"


def test_arms_that_compute_the_same_are_refused(tmp_path: Path) -> None:
    twins = {
        "backbone": {
            "one": {"model.backbone": "tiny-gpt2"},
            "two": {"model.backbone": "tiny-bert"},
        }
    }
    sweep = sweep_with(compare=twins)
    check_arms(sweep, "demo.yaml")
    copies = [tmp_path / "one", tmp_path / "two"]
    for copy in copies:
        copy.mkdir()
        (copy / "config.json").write_text(
            '{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 32}'
        )
    same = {"backbone": {c.name: {"model.backbone": str(c)} for c in copies}}
    with pytest.raises(SweepFileError, match="the arms one and two compute the same"):
        check_arms(sweep_with(compare=same), "demo.yaml")
    groups = ["input", "output", "positions", "layer_norm", "attention", "feed_forward"]
    spelled = {"trained": {"a": {"model.trained": ["all"]}, "b": {"model.trained": groups}}}
    with pytest.raises(SweepFileError, match="the arms a and b compute the same"):
        check_arms(sweep_with(compare=spelled), "demo.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "sweeps").rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_sweep_can_be_built_and_planned_without_its_data(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FPT_RAY_CACHE", str(tmp_path))
    # Without weights the backbone's name stands for what they are.
    monkeypatch.setattr(checks, "fingerprints", lambda s: {"backbone": str(s.model)})
    sweep = load_sweep(file)
    check_arms(sweep, str(file))
    assert [arm.name for arm in plan_sweep(sweep).arms] == [arm.name for arm in sweep.arms]
    assert list(tmp_path.iterdir()) == []


def test_tuned_backbones_are_checked_before_the_first_trial() -> None:
    tuned = {"space": {"model.backbone": {"grid": ["tiny-gpt2", "./gone/too"]}}}
    with pytest.raises(SweepFileError, match="gone/too"):
        check_arms(sweep_with(tune=tuned), "demo.yaml")


def test_a_change_in_one_arm_names_it() -> None:
    with pytest.raises(SweepFileError) as refusal:
        edit(sweep_with(compare=compare(a=1.0, b=2.0)), sweep_with(compare=compare(a=1.0, b=3.0)))
    (problem,) = refusal.value.problems
    assert problem.what.startswith("model.orthogonal_gain: 2.0 -> 3.0 (arm b) contradicts")


def test_the_problems_of_all_arms_are_told_at_once() -> None:
    gone = {"backbone": {n: {"model.backbone": f"./{n}/gone"} for n in ("one", "two")}}
    with pytest.raises(SweepFileError) as refusal:
        check_arms(sweep_with(compare=gone), "demo.yaml")
    assert len(refusal.value.problems) == 2


def test_progress_tells_each_arm_in_one_line(tmp_path: Path) -> None:
    record, _ = drive(RunDirectory(tmp_path / "demo"), sweep_with(), 0)
    line = arm_line(record, "good")
    assert line.startswith("good      tune 6/6 (")
    assert "final 2/2  best validation_accuracy" in line
    assert "at training.learning_rate: " in line
    assert remaining_steps(record) == 0
    out = io.StringIO()
    with Progress(Console(file=out, width=200), done_before=0) as progress:
        progress.show(record, "8 trials at a time on cpu")
        assert not progress.due()
        progress.show(record)
    assert out.getvalue().count("hopeless") == 1
    assert "steps done; 8 trials at a time on cpu" in out.getvalue()
    assert "steps done" in out.getvalue()


def test_progress_on_a_terminal_is_redrawn(tmp_path: Path) -> None:
    record, _ = drive(RunDirectory(tmp_path / "demo"), sweep_with(), 0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with Progress(console, done_before=0) as progress:
        progress.show(record)
        progress.show(record)
    assert "\x1b[" in out.getvalue()


def test_failures_are_described_by_their_cause() -> None:
    cause = ValueError("first line\nsecond line")
    assert describe_failure(cause) == "ValueError: first line second line"
    wrapped = RayTaskError("step", "traceback", cause)
    assert describe_failure(wrapped) == "ValueError: first line second line"
    assert "no reason" in describe_failure(None)


def test_the_plan_counts_parameters_rungs_and_steps() -> None:
    plan = plan_sweep(sweep_with())
    assert plan.rungs == (2, 6)
    document = plan.to_json()
    arm = document["arms"][0]
    # The output layer of tiny-gpt2 (width 32) has two logits for each bit.
    assert arm["trained_parameters"] == 2 * 32 + 2
    assert arm["by_group"]["output"] == {"trained": 66, "total": 66}
    assert (arm["tune_trials"], arm["final_trials"]) == (6, 2)
    assert arm["most_steps"] == 8 * 18
    assert arm["least_steps"] == 6 * 2 + 2 * 4 + 1 * 12 + 2 * 18
    out = io.StringIO()
    Console(file=out, width=140).print(plan.table())
    assert "rungs at 2, 6, full length 18 steps" in out.getvalue()


def test_a_plan_without_early_stopping_has_no_rungs() -> None:
    assert rungs_of(sweep_with(tune=None)) == ()
    fifo = plan_sweep(sweep_with(tune={"space": GRID}))
    assert fifo.arms[0].least_steps == fifo.arms[0].most_steps
