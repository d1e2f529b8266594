"""``summary.md`` for finished, unfinished, unlucky and small sweeps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from fpt_ray.report.reproduction import reproduction
from fpt_ray.report.results import collect
from fpt_ray.report.summary import summarize_sweep

FIGURES = ("search", "curves")
ENVIRONMENT = {
    "runs": [
        {"started": "2026-01-01T00:00:00+00:00", "command": "python -m fpt_ray.sweep old.yaml"},
        {
            "started": "2026-01-02T00:00:00+00:00",
            "command": "python -m fpt_ray.sweep 'my sweeps/demo.yaml'",
            "versions": {"python": "3.11.9", "torch": "2.15.0"},
            "commit": None,
            "devices": {"cores": 2},
        },
    ]
}


def summarize(sweep: Any, figures: Sequence[str] = FIGURES, environment: Any = None) -> str:
    record = sweep.record()
    return summarize_sweep(record, collect(record), figures, environment)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_the_final_table_has_a_row_for_every_arm(finished: Any) -> None:
    table = section(summarize(finished), "Result").splitlines()
    assert table[0] == "Task: bit_xor."
    assert table[4] == (
        "| `pretrained` (reference) | learning_rate=0.001 | 3 of 3 | 96.00 [91.03, 100.97] | 2.00 "
        "| – | – | – | 1,234 | 4 / 1 / 1 / 0 | 30.0 |"  # noqa: RUF001 - the table's empty cell
    )
    assert table[5].startswith(
        "| `random` | learning_rate=0.01 | 3 of 3 | 75.00 [62.58, 87.42] | 5.00 "
        "| -21.00 [-31.83, -10.17] | 0.014 | 0.50 | 1,234 |"
    )


def test_sequences_that_were_not_read_are_told_below_their_table(new_sweep: Any) -> None:
    told = "were longer than the task's max_length, were not read and count as wrong."
    texts = {}
    for skipped in (None, 0, 1100):
        sweep = new_sweep(arms=("a",), space={}, test_skipped=skipped)
        sweep.final("a", None, 0, 0.9)
        texts[skipped] = summarize(sweep)
    assert section(texts[1100], "Result").endswith(f"\n\n1,100 of 1,500 test sequences {told}")
    assert told not in texts[None]
    assert texts[0] == texts[None]


def test_the_search_table_warns_of_edges(finished: Any) -> None:
    search = section(summarize(finished), "Search")
    assert "| `pretrained` | 3 of 3 | 1 | learning_rate=0.001 | 95.00 | no |" in search
    assert "| `random` | 3 of 3 | 2 | learning_rate=0.01 | 75.00 | learning_rate: upper |" in search
    assert "A best value at the edge of its range may be beaten by one beyond it." in search


def test_cost_counts_trials_steps_and_readings_of_test(finished: Any) -> None:
    assert section(summarize(finished), "Cost and use of the test split") == (
        "12 trials, 3,200 training steps, 64.0 s of training summed over all trials. The test "
        "split was read 6 times, once by each finalist that ended."
    )


def test_superseded_readings_are_told(finished: Any) -> None:
    finished.tune("pretrained", 3e-3, [0.9, 0.95, 0.99])
    assert (
        "3 times by 3 finalists now superseded, because the arm got a better configuration since."
    ) in summarize(finished)


def test_the_intervals_say_what_they_cover(finished: Any) -> None:
    told = section(summarize(finished), "What the intervals cover")
    assert "given one test set, one split of the data and the selected configuration" in told


def test_troubles_are_listed_with_step_and_reason(searched: Any) -> None:
    searched.fail("CUDA | out\nof memory")
    listed = section(summarize(searched), "Trials that diverged or failed")
    assert (
        "| `000000000002` | `pretrained` | tune | learning_rate=0.01 | 7 | diverged | 200 "
        "| the loss is nan |"
    ) in listed
    assert "| failed | 200 | CUDA \\| out of memory |" in listed


def test_a_diverged_final_seed_takes_the_mean_away(searched: Any) -> None:
    for index, accuracy in enumerate([0.9, None, 0.8]):
        searched.final("pretrained", 1e-3, index, accuracy)
    row = section(summarize(searched), "Result").splitlines()[4]
    assert row.startswith(
        "| `pretrained` (reference) | learning_rate=0.001 | 2 of 3, 1 lost | – | – |"  # noqa: RUF001
    )


def test_an_unfinished_sweep_lists_what_is_left(searched: Any) -> None:
    text = summarize(searched)
    assert text.startswith(
        "# demo\n\nThis sweep is unfinished, so every number below is provisional.\n"
    )
    assert "- left to do: pretrained: 0 of 3 final seeds\n- left to do: random: 0 of 3" in text
    assert "| `pretrained` (reference) | learning_rate=0.001 | 0 of 3 | – |" in text  # noqa: RUF001


def test_a_sweep_that_has_only_begun_has_a_summary(new_sweep: Any) -> None:
    text = summarize(new_sweep())
    assert "| `random` | 0 of 3 | 0 | none yet | – | – |" in text  # noqa: RUF001
    assert section(text, "Trials that diverged or failed") == "None."


def test_without_a_search_the_summary_says_why_a_figure_is_missing(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("default",), space={})
    for index in range(3):
        sweep.final("default", None, index, 0.9)
    text = summarize(sweep, figures=("curves",))
    assert section(text, "Search") == (
        "Nothing was tuned: each arm went straight to its final seeds as configured."
    )
    assert section(text, "Figures") == (
        "![Learning curves of every trial, stopped ones dashed](figures/curves.png)\n\n"
        "There is no figure of the search, because this sweep tunes nothing."
    )
    assert (
        "| `default` (reference) | as configured | 3 of 3 | 90.00 [86.67, 92.57] (wilson)" in text
    )


def test_tasks_have_tables_of_their_own(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b"), space={}, tasks={"b": {"name": "bit_memory"}})
    result = section(summarize(sweep), "Result")
    assert "### bit_xor" in result
    assert "### bit_memory" in result
    assert result.endswith("Arms with different tasks are not compared.")


def test_an_arm_of_another_kind_is_pinned_by_its_whole_section(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("a", "b"), space={}, tasks={"b": {"name": "bit_memory"}})
    row = section(summarize(sweep), "Reproduction").split("| `b` | `")[1]
    assert """--set 'task={"name": "bit_memory"}' --set model.init=b` |""" in row


def test_reproduction_gives_the_last_command_and_one_for_each_row(finished: Any) -> None:
    text = section(summarize(finished, environment=ENVIRONMENT), "Reproduction")
    command = "python -m fpt_ray.sweep 'my sweeps/demo.yaml'"
    assert f"```sh\n{command}\n```" in text
    assert (
        f"| `random` | `{command} --set name=demo-random --set 'compare={{}}' --set reference=null "
        "--set tune=null --set model.init=random --set training.learning_rate=0.01` |"
    ) in text
    assert (
        "Environment of the last start (2026-01-02T00:00:00+00:00): python 3.11.9, torch 2.15.0; "
        'commit unknown; devices `{"cores": 2}`.'
    ) in text


def test_without_an_environment_the_sweep_file_beside_is_named(finished: Any) -> None:
    text = section(summarize(finished), "Reproduction")
    assert "```sh\npython -m fpt_ray.sweep sweep.yaml --set name=demo\n```" in text


def test_flags_survive_a_shell_and_are_json(new_sweep: Any) -> None:
    sweep = new_sweep(arms=("it's", "b"), space={"training.learning_rate": {"choice": [["x y"]]}})
    for arm in sweep.arms:
        sweep.tune(arm, ["x y"], [0.5, 0.6, 0.7])
    row = section(summarize(sweep), "Reproduction").split("| `it's` | `")[1].split("` |")[0]
    words = shlex.split(row)
    assert 'model.init="it\'s"' in words
    assert json.loads(words[-1].removeprefix("training.learning_rate=")) == ["x y"]
    assert "name=demo-it-s" in words


def test_rows_alone_drop_published_numbers_of_arms_they_lack(finished: Any) -> None:
    asked = [{"table": "T15", "arms": {"random": "output"}}]
    plain, beside = finished.record(), finished.record(published=asked)
    assert "--set published=[]" not in reproduction(plain, None)
    assert reproduction(beside, None).count("--set 'published=[]'") == len(beside.arms)
