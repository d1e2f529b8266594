"""What ``packing.py`` compares with, written by hand over Hugging Face models.

- ``alone``: the paper's way, a plain loop over one trial;
- ``Processes``: several such loops, each in a process of its own, on one device;
- ``vmapped``: trials in one batch by ``torch.func``: stacked copies, which hold all weights once a
  trial as HFTA does, or one copy of the frozen weights for all.

Dropout is that of the models themselves. Tokens are drawn at random on the device.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch
from packing_cases import Case, Precision, Run, arithmetic, draw, synchronise
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedModel

LEARNING_RATE = 1e-3
CLIP_NORM = 1.0
TRAINED_IN_BACKBONE = ("ln_", "LayerNorm", "wpe", "position_embeddings")


class PlainModel(nn.Module):
    """A backbone with random weights between two linear layers.

    Args:
        case: whose shapes.
        attention: transformers' name of the attention; None leaves it to transformers.
    """

    def __init__(self, case: Case, attention: str | None = None) -> None:
        super().__init__()
        spec = case.spec
        self.backbone = plain_backbone(case.backbone, attention)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(any(part in name for part in TRAINED_IN_BACKBONE))
        width = self.backbone.config.hidden_size
        self.first, self.last = nn.Linear(spec.input_size, width), nn.Linear(width, spec.num_logits)
        self.num_read, self.num_classes = spec.num_read, spec.num_classes

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean loss of a batch."""
        hidden = self.backbone(inputs_embeds=self.first(tokens)).last_hidden_state
        logits = self.last(hidden[:, -self.num_read :]).float()
        by_decision = logits.reshape(-1, self.num_classes)
        return nn.functional.cross_entropy(by_decision, targets.reshape(-1))


def plain_backbone(name: str, attention: str | None = None) -> PreTrainedModel:
    """Build a model as transformers does, without the token embeddings that nobody reads."""
    if name == "gpt2":
        ends = {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None}
        gpt2 = GPT2Model(GPT2Config(**ends, attn_implementation=attention))
        gpt2.wte = None
        return gpt2
    sizes = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}
    config = BertConfig(**sizes, attn_implementation=attention, vocab_size=1)
    return BertModel(config, add_pooling_layer=False)


def alone(case: Case, device: torch.device, precision: Precision) -> Run:
    """Build one trial; return a function that trains it by a plain loop."""
    model = PlainModel(case).to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE)

    def step() -> None:
        tokens, targets = draw(case, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        optimizer.step()

    return timed(step, device, precision)


def vmapped(
    case: Case, num_trials: int, shares: bool, device: torch.device, precision: Precision
) -> Run:
    """Build trials that compute as one by ``vmap``; return a function that trains all of them.

    Args:
        case: whose shapes.
        num_trials: how many.
        shares: one copy of the frozen weights for all; else one for each.
        device: where to compute.
        precision: of the forward pass.
    """
    # vmap has no rule for fused attention on a CPU, and would loop over trials.
    model = PlainModel(case, attention="eager").to(device).train()
    stacked, buffers = stack_module_state([model] * num_trials)
    own = {name: value for name, value in stacked.items() if value.requires_grad}
    frozen = {name: value for name, value in stacked.items() if name not in own}
    buffers = {name: value[0] for name, value in buffers.items()}
    if shares:
        frozen = {name: model.get_parameter(name) for name in frozen}
    del stacked
    model.to("meta")
    optimizer = torch.optim.Adam(own.values(), lr=LEARNING_RATE)

    def loss_of(
        mine: Mapping[str, Tensor], others: Mapping[str, Tensor], tokens: Tensor, targets: Tensor
    ) -> Tensor:
        state = {**mine, **others, **buffers}
        found: Tensor = functional_call(model, state, (tokens, targets))
        return found

    losses_of = vmap(loss_of, (0, None if shares else 0, 0, 0), randomness="different")

    def step() -> None:
        batch = draw(case, device, num_trials)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses = losses_of(own, frozen, *batch)
        optimizer.zero_grad()
        losses.sum().backward()
        clip_each([parameter.grad for parameter in own.values() if parameter.grad is not None])
        optimizer.step()

    return timed(step, device, precision)


def clip_each(gradients: list[Tensor]) -> None:
    """Clip the norm of every trial's gradients; they are (trials, ...)."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (CLIP_NORM / (norms + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, [factors.view(-1, *[1] * (g.dim() - 1)) for g in gradients])


def timed(step: Any, device: torch.device, precision: Precision) -> Run:
    """Turn a step into a function that makes a number of them and tells the seconds."""

    def run(num_steps: int) -> float:
        synchronise(device)
        started = time.perf_counter()
        with arithmetic(precision):
            for _ in range(num_steps):
                step()
        synchronise(device)
        return time.perf_counter() - started

    return run


class Processes:
    """Plain loops in processes of their own, which share one device.

    Args:
        case: whose shapes.
        num_processes: how many; on a CPU they divide the threads between them.
        device: which they share.
        precision: of the forward pass.
    """

    def __init__(
        self, case: Case, num_processes: int, device: torch.device, precision: Precision
    ) -> None:
        context = multiprocessing.get_context("spawn")
        num_threads = max(1, torch.get_num_threads() // num_processes)
        self._connections: list[Connection] = []
        self._processes = []
        for _ in range(num_processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, case, str(device), precision, num_threads)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self._connections.append(ours)
            self._processes.append(process)
        for connection in self._connections:
            connection.recv()

    def __call__(self, num_steps: int) -> float:
        """Have every process train so many steps; return the seconds until all have."""
        started = time.perf_counter()
        for connection in self._connections:
            connection.send(num_steps)
        for connection in self._connections:
            connection.recv()
        return time.perf_counter() - started

    def close(self) -> None:
        """End the processes."""
        for connection in self._connections:
            connection.send(None)
        for process in self._processes:
            process.join()


def _serve(
    connection: Connection, case: Case, device: str, precision: Precision, num_threads: int
) -> None:
    torch.set_num_threads(num_threads)
    run = alone(case, torch.device(device), precision)
    connection.send("ready")
    while (num_steps := connection.recv()) is not None:
        run(num_steps)
        connection.send(num_steps)
