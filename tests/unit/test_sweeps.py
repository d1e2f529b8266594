"""Every shipped sweep file can be planned without a network, and its head says what that costs."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from fpt_ray.config import Sweep, identity, load_sweep
from fpt_ray.config.published import published_tables
from fpt_ray.config.tasks import TASKS
from fpt_ray.node_cache import CACHE_VARIABLE
from fpt_ray.plan import Machine, Plan, plan_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").rglob("*.yaml"))
PAPER = [file for file in SWEEPS if file.parent.name == "paper"]
TABLES = {
    *("T1", "T2", "T3", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "T14"),
    *("T15", "T16", "T17", "T18", "T20", "T21", "rothermel_T1"),
}
MACHINE = Machine("a device", 1e13, 1.0)

every_sweep = pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)


def head_of(file: Path) -> str:
    """The comment at a file's top, as one line."""
    lines = file.read_text().splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(" ".join(line.lstrip("#") for line in lines[:end]).split())


def small_command(file: Path) -> list[str]:
    """The words of the command in a file's head."""
    lines = [line.lstrip("# ") for line in file.read_text().splitlines() if line.startswith("#  ")]
    return shlex.split(" ".join(line.removesuffix("\\") for line in lines))


def cost_of(plan: Plan) -> str:
    """What the plan prints about all trials: "30 trials, ... steps, ... PFLOP"."""
    out = io.StringIO()
    Console(file=out, width=200).print(plan.table())
    found = re.search(r"In all (.*? PFLOP):", out.getvalue())
    assert found
    return found.group(1)


@cache
def sweep_of(file: Path) -> Sweep:
    return load_sweep(file)


@cache
def plan_of(file: Path) -> Plan:
    return plan_sweep(sweep_of(file), MACHINE)


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a hub's cache nor our own, and none of them after the test."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    yield
    assert list(tmp_path.iterdir()) == []


@every_sweep
@pytest.mark.usefixtures("nothing_cached")
def test_a_shipped_sweep_is_planned_without_files_or_network(file: Path) -> None:
    plan = plan_of(file)
    assert [arm.name for arm in plan.arms] == [arm.name for arm in sweep_of(file).arms]
    assert all(arm.description.trained_parameters > 0 for arm in plan.arms)
    estimate = plan.to_json()["estimate"]
    assert 0 < estimate["least_device_hours"] <= estimate["most_device_hours"]


def test_the_sweep_of_the_cluster_is_the_quickstart_with_streamed_data() -> None:
    cluster, quickstart = (
        sweep_of(ROOT / "sweeps" / f"{n}.yaml") for n in ("cluster", "quickstart")
    )
    assert {arm.settings.data.mode for arm in cluster.arms} == {"streaming"}
    alike = [(s.seed, s.tune, s.final, s.training) for s in (cluster, quickstart)]
    assert alike[0] == alike[1]
    # Equal identities: the same trials, with the same ids.
    identities = [[identity(arm.settings) for arm in s.arms] for s in (cluster, quickstart)]
    assert identities[0] == identities[1]


@pytest.mark.parametrize(
    "file", [f for f in SWEEPS if " PFLOP" in head_of(f)], ids=lambda file: file.stem
)
def test_the_cost_in_the_head_is_that_of_the_plan(file: Path) -> None:
    assert f"Cost: {cost_of(plan_of(file))} by `plan`" in head_of(file)


@pytest.mark.parametrize(
    "file", [f for f in SWEEPS if small_command(f)], ids=lambda file: file.stem
)
@pytest.mark.usefixtures("nothing_cached")
def test_the_small_version_in_the_head_is_valid_and_much_cheaper(file: Path) -> None:
    program, command, path, *settings = small_command(file)
    assert (program, command, ROOT / path) == ("fpt-ray", "run", file)
    assert set(settings[::2]) == {"--set"}
    small = load_sweep(file, settings[1::2])
    assert small.name != sweep_of(file).name
    flop, whole_flop = (
        plan.to_json()["estimate"]["most_flop"]
        for plan in (plan_sweep(small, MACHINE), plan_of(file))
    )
    assert flop < whole_flop / (2 if file.stem == "ends" else 20)


def test_every_table_of_the_paper_has_a_sweep_that_prints_it() -> None:
    assert set(published_tables()) >= TABLES
    printed = {file: {published.table for published in sweep_of(file).published} for file in SWEEPS}
    for file in PAPER:
        named = re.match(r"(T\d+)_", file.name)
        assert named is None or printed[file] <= {named.group(1)}
    assert set().union(*printed.values()) >= TABLES


@pytest.mark.parametrize(
    "file", [f for f in PAPER if sweep_of(f).published], ids=lambda file: file.stem
)
def test_a_sweep_of_the_paper_tunes_the_learning_rate_around_the_papers(file: Path) -> None:
    sweep = sweep_of(file)
    assert sweep.tune
    assert {1e-4, 3e-4, 1e-3} <= set(sweep.tune.space["training.learning_rate"].probes)
    assert sweep.final.seeds >= 5
    settings = [arm.settings for arm in sweep.arms]
    assert {s.training.dropout for s in settings} == {0.1}
    assert {s.model.orthogonal_gain for s in settings} == {1.41}


@pytest.mark.parametrize(
    "file", [f for f in SWEEPS if " PFLOP" in head_of(f)], ids=lambda file: file.stem
)
def test_the_page_about_the_paper_lists_each_sweep_with_its_cost(file: Path) -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    cost = re.search(r"Cost: ([\d,]+) trials, .*? steps, (.*?) PFLOP", head_of(file))
    assert cost
    (row,) = (line for line in page.splitlines() if f"](../{file.relative_to(ROOT)})" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[4], cells[5]) == cost.groups()
    published = [published.table for published in sweep_of(file).published]
    assert cells[1] == (", ".join(published) or "none")


def test_the_small_version_on_the_page_is_that_of_its_file() -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    words = [
        shlex.split(block.replace("\\\n", " "))
        for block in re.findall(r"^```bash\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    ]
    assert small_command(ROOT / "sweeps" / "paper" / "T15_cumulative_pretrained.yaml") in words


def test_the_budgets_on_the_page_fit_their_tasks() -> None:
    page = (ROOT / "docs" / "paper.md").read_text()
    budgets = re.findall(r"^\| (\w+) \| [\d,]+ \| (as in the file|`--set .*?`) \|", page, re.M)
    assert {task for task, _ in budgets} == set(TASKS)
    ladder = ROOT / "sweeps" / "paper" / "T15_cumulative_pretrained.yaml"
    for task, settings in budgets:
        overrides = [word for word in shlex.split(settings.strip("`")) if "=" in word]
        sweep = load_sweep(ladder, [f"task.name={task}", f"name=T15_{task}", *overrides])
        assert (sweep.task.name, sweep.name) == (task, f"T15_{task}")
