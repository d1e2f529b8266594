"""Attention maps: equal to what transformers returns, of the trained trial, for every family."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fpt_ray.attention import attention_maps, mean_attention
from fpt_ray.cli import main
from fpt_ray.config import TrialSettings
from fpt_ray.errors import CheckpointError, DataError, ModelError, RunDirectoryError
from fpt_ray.models import SequenceModel
from fpt_ray.node_cache import CACHE_VARIABLE
from fpt_ray.records import EvaluationRecord, SweepRecord, load_sweep_record
from fpt_ray.storage import RunDirectory
from fpt_ray.tasks import build_task
from fpt_ray.training import build_trainer
from fpt_ray.training.build import build_model

TRANSFORMERS_RETURN_THEM = ("gpt2", "bert", "roberta", "distilbert", "t5", "llama")
FAMILIES = (*TRANSFORMERS_RETURN_THEM, "vit", "longformer")
TRAINING = {"batch_size": 4, "max_steps": 4, "eval_every": 2, "validation_size": 16}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing from threads, which stall where other tests run beside."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def node_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "node_cache"))


def settings_of(backbone: str = "tiny-gpt2", **sections: Any) -> TrialSettings:
    trained = ["input", "output", "layer_norm"]
    model = {
        "backbone": backbone,
        "init": "random",
        "trained": trained,
        **sections.pop("model", {}),
    }
    document = {"task": {"name": "bit_xor"}, "training": TRAINING, **sections, "model": model}
    return TrialSettings.model_validate(document)


def model_of(settings: TrialSettings) -> SequenceModel:
    model, _ = build_model(settings, 3, build_task(settings), torch.device("cpu"))
    return model.eval()


def sequences(length: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return list(torch.randn(count, 1, length, 1, generator=generator))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_sum_to_one_in_every_layer(family: str) -> None:
    model = model_of(settings_of(f"tiny-{family}"))
    maps = mean_attention(model, sequences(10))
    assert maps.shape == (2, 10, 10)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 10, dtype=torch.float64))


@pytest.mark.parametrize("family", TRANSFORMERS_RETURN_THEM)
def test_maps_are_the_mean_over_heads_of_what_transformers_returns(family: str) -> None:
    model = model_of(settings_of(f"tiny-{family}"))
    samples = sequences(10)
    expected = []
    with torch.inference_mode():
        for tokens in samples:
            embedded = model.input_layer(tokens)
            returned = model.backbone(inputs_embeds=embedded, output_attentions=True).attentions
            expected.append(torch.stack([layer[0].mean(dim=0) for layer in returned]))
    wanted = torch.stack(expected).mean(dim=0).double()
    torch.testing.assert_close(mean_attention(model, samples), wanted, rtol=0, atol=1e-6)


def by_hand(states: Tensor, query: nn.Module, key: nn.Module, reach: int | None) -> Tensor:
    """Softmax of scaled products, averaged over two heads; (seq, hidden) to (seq, seq)."""
    queries, keys = (
        project(states).reshape(len(states), 2, -1).transpose(0, 1) for project in (query, key)
    )
    scores = queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[-1])
    place = torch.arange(len(states))
    if reach is not None:
        scores[:, (place[:, None] - place).abs() > reach] = -math.inf
    return scores.softmax(dim=-1).mean(dim=0).double()


@torch.inference_mode()
def test_vit_attends_as_computed_by_hand() -> None:
    model: Any = model_of(settings_of("tiny-vit"))
    (tokens,) = sequences(10, count=1)
    block = model.backbone.layers[0]
    states = block.layernorm_before(model.backbone.embeddings(model.input_layer(tokens)))[0]
    wanted = by_hand(states, block.attention.q_proj, block.attention.k_proj, reach=None)
    torch.testing.assert_close(mean_attention(model, [tokens])[0], wanted, rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("length", [6, 30])
def test_longformer_attends_within_its_window(length: int) -> None:
    model: Any = model_of(settings_of("tiny-longformer"))
    (tokens,) = sequences(length, count=1)
    states = model.backbone.embeddings(inputs_embeds=model.input_layer(tokens))[0]
    attention = model.backbone.encoder.layer[0].attention.self
    wanted = by_hand(states, attention.query, attention.key, reach=8)
    torch.testing.assert_close(mean_attention(model, [tokens])[0], wanted, rtol=0, atol=1e-6)


def test_recording_leaves_no_trace() -> None:
    model = model_of(settings_of())
    (tokens,) = sequences(10, count=1)
    with torch.inference_mode():
        before = model(tokens)
        mean_attention(model, [tokens])
        torch.testing.assert_close(model(tokens), before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in model.backbone.modules())


def test_a_model_without_attention_is_refused() -> None:
    settings = settings_of()
    model = model_of(settings)
    model.backbone = nn.Identity()
    model._body = type("Body", (), {"run": lambda self, module, embedded, mask: embedded})()
    with pytest.raises(ModelError, match="no module that returns attention weights"):
        mean_attention(model, sequences(10))


Saved = tuple[RunDirectory, SweepRecord]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Saved]:
    """Train an arm's finalists and write a run directory, as a sweep would."""

    def save_run(*arms: dict[str, Any], num_seeds: int = 1) -> Saved:
        run = RunDirectory(tmp_path / "demo")
        resolved = {
            **{"name": "demo", "seed": 0, "reference": "arm0", "tune": None, "num_trials": 0},
            **{"metric": "validation_accuracy", "direction": "max", "loggers": []},
            **{"final_seeds": list(range(num_seeds)), "max_steps": 4},
            "arms": [
                {"name": f"arm{index}", "labels": {}, "settings": settings}
                for index, settings in enumerate(arms)
            ],
        }
        run.write_json(RunDirectory.RESOLVED, resolved)
        for arm in resolved["arms"]:
            for seed in range(num_seeds):
                save_trial(run, arm, seed)
        return run, load_sweep_record(run)

    return save_run


def save_trial(run: RunDirectory, arm: dict[str, Any], seed: int) -> None:
    trial_id = f"{arm['name']}-{seed}"
    config = {
        **{"trial_id": trial_id, "stage": "final", "arm": arm["name"], "labels": {}},
        **{"slot": seed, "seed": seed, "seed_index": seed, "values": {}},
        "settings": arm["settings"],
    }
    run.write_json(run.config_of(trial_id), config)
    accuracies = [0.5 + seed / 10, 0.6 + seed / 10]
    if arm["settings"]["model"].get("name", "fpt") == "fpt":
        trainer = build_trainer(TrialSettings.model_validate(arm["settings"]), seed)
        trainer.advance(4)
        run.write_bytes(run.best_of(trial_id), trainer.best())
    lines = [
        EvaluationRecord(
            step=2 * index,
            sequence=index,
            decision="finish" if index == 2 else "continue",
            train_loss=1.0,
            validation_loss=1.0,
            validation_accuracy=accuracy,
            train_s=1.0,
            wall_s=1.0,
        ).to_line()
        for index, accuracy in enumerate(accuracies, start=1)
    ]
    run.write_bytes(run.log_of(trial_id), "".join(lines).encode())


def dumped(*args: Any, **sections: Any) -> dict[str, Any]:
    return settings_of(*args, **sections).model_dump(mode="json")


def test_the_best_finalist_is_drawn_with_its_trained_parameters(save: Any) -> None:
    settings = settings_of(training={**TRAINING, "learning_rate": 0.1})
    run, record = save(settings.model_dump(mode="json"), num_seeds=2)
    maps = attention_maps(run, record, "arm0", 5)
    assert (maps.trial_id, maps.step, maps.num_samples) == ("arm0-1", 4, 5)
    trainer = build_trainer(settings, 1)
    untrained = mean_attention(
        trainer._model, [build_task(settings).batch("validation", 0, 0, 1).tokens]
    )
    trainer.advance(4)
    batch = build_task(settings).batch("validation", 0, 1, 5)  # the middle one of 16 // 5 = 3
    wanted = mean_attention(trainer._model, [batch.tokens[i : i + 1] for i in range(5)])
    np.testing.assert_allclose(maps.weights, wanted.numpy(), rtol=0, atol=1e-6)
    assert np.abs(maps.weights - untrained.numpy()).max() > 1e-3


def test_a_sequence_is_parted_into_its_strings_and_read_tokens_are_marked(save: Any) -> None:
    run, record = save(dumped())
    maps = attention_maps(run, record, "arm0", 2)
    assert [(each.label, each.num_tokens) for each in maps.segments] == [
        ("string 1", 5),
        ("string 2", 5),
    ]
    assert maps.read == (5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    ("sections", "labels", "read"),
    [
        (
            {"task": {"name": "bit_memory", "length": 100, "patterns": 2}},
            ["string 1", "string 2", "masked copy"],
            (4, 5),
        ),
        (
            {"task": {"name": "bit_xor"}, "model": {"token_order": "shuffled"}},
            ["shuffled tokens", "last tokens"],
            (5, 6, 7, 8, 9),
        ),
        (
            {"model": {"read": "first", "backbone": "tiny-bert"}},
            ["string 1", "string 2"],
            (0, 1, 2, 3, 4),
        ),
    ],
)
def test_segments_and_read_tokens_follow_from_the_settings(
    save: Any, sections: dict[str, Any], labels: list[str], read: tuple[int, ...]
) -> None:
    run, record = save(dumped(**sections))
    maps = attention_maps(run, record, "arm0", 2)
    assert [each.label for each in maps.segments] == labels
    assert sum(each.num_tokens for each in maps.segments) == maps.weights.shape[-1]
    assert maps.read == read


def test_sequences_of_other_lengths_are_left_out_and_none_is_padded(save: Any) -> None:
    task = {"name": "listops", "max_length": 20, "max_depth": 3, "max_args": 3, "train_size": 40}
    run, record = save(dumped("tiny-bert", task=task))
    maps = attention_maps(run, record, "arm0", 8)
    batch = build_task(settings_of("tiny-bert", task=task)).batch("validation", 0, 1, 8)
    assert batch.mask is not None
    lengths = batch.mask.sum(dim=1).tolist()
    assert maps.weights.shape[-1] == lengths[0]
    assert maps.num_samples == lengths.count(lengths[0]) < 8
    np.testing.assert_allclose(maps.weights.sum(axis=-1), 1, atol=1e-6)


def test_an_arm_without_attention_is_refused(save: Any) -> None:
    run, record = save({**dumped(), "model": {"name": "lstm"}})
    with pytest.raises(ModelError, match="arm arm0 has no attention: its model is lstm"):
        attention_maps(run, record, "arm0", 2)


def test_an_arm_without_a_finished_finalist_is_refused(save: Any) -> None:
    run, record = save(dumped(), num_seeds=0)
    with pytest.raises(RunDirectoryError, match="no finalist of arm arm0 has finished"):
        attention_maps(run, record, "arm0", 2)


def test_missing_best_parameters_are_named(save: Any) -> None:
    run, record = save(dumped())
    run.delete(run.best_of("arm0-0"))
    with pytest.raises(RunDirectoryError, match="the best parameters of trial arm0-0 are missing"):
        attention_maps(run, record, "arm0", 2)


def test_parameters_of_other_frozen_weights_are_refused(save: Any) -> None:
    run, record = save(dumped(), num_seeds=2)
    run.write_bytes(run.best_of("arm0-1"), run.read_bytes(run.best_of("arm0-0")) or b"")
    with pytest.raises(CheckpointError, match="not those that the trial was trained on"):
        attention_maps(run, record, "arm0", 2)


def test_missing_data_are_named(save: Any, tmp_path: Path) -> None:
    run, record = save(dumped())
    settings = dumped(task={"name": "remote_homology"}, data={"dir": str(tmp_path / "nowhere")})
    trial = replace(record.trials[0], settings=settings)
    with pytest.raises((DataError, ModelError)) as caught:
        attention_maps(run, replace(record, trials=(trial,)), "arm0", 2)
    assert isinstance(caught.value, DataError)


def test_settings_of_an_older_version_are_read(save: Any) -> None:
    old = dumped()
    old["model"] = {
        **{"name": "fpt", "backbone": "tiny-gpt2", "init": "random", "num_layers": None},
        "trained": ["input", "output", "layer_norm"],
    }
    run, record = save(old)
    assert attention_maps(run, record, "arm0", 1).weights.shape == (2, 10, 10)


def test_the_command_draws_what_it_can_and_leaves_the_report_alone(
    save: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lstm = {**dumped(), "model": {"name": "lstm"}}
    run, _ = save(dumped(), lstm, dumped("tiny-bert"))
    run.delete(run.best_of("arm2-0"))
    assert main(["report", run.uri, "--attention", "--samples", "2", "--json"]) == 1
    printed = capsys.readouterr()
    assert [arm["arm"] for arm in json.loads(printed.out)["arms"]] == ["arm0", "arm1", "arm2"]
    assert "no attention maps of arm1: its model is lstm" in printed.err
    assert "error: no attention maps of arm2: " in printed.err
    assert "the best parameters of trial arm2-0 are missing" in printed.err
    summary = (run.read_bytes("report/summary.md") or b"").decode()
    assert "![Attention maps of arm0](figures/attention_arm0.png)" in summary
    assert "attention_arm2" not in summary
    assert (run.read_bytes("report/figures/attention_arm0.png") or b"").startswith(b"\x89PNG")
    assert main(["report", run.uri]) == 0
    assert (run.read_bytes("report/summary.md") or b"").decode() == summary


def test_a_report_without_the_flag_needs_no_torch(save: Any) -> None:
    run, _ = save(dumped())
    program = (
        "import sys\n"
        "from fpt_ray.cli import main\n"
        f"code = main(['report', {run.uri!r}])\n"
        "print(code, 'torch' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stderr.splitlines()[-1] == "0 False"
