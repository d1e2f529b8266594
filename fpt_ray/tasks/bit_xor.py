"""Bit XOR: the bitwise exclusive or of two strings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fpt_ray.seeding import derive_seed
from fpt_ray.tasks.base import TaskSources, TaskSpec
from fpt_ray.tasks.generated import GeneratedTask, Sequences
from fpt_ray.tasks.randomness import random_signs


@dataclass(frozen=True)
class BitXor(GeneratedTask):
    """Show strings of +1/-1 one bit a token; ask their parity, position by position.

    Source: Lu et al. 2021 (arXiv:2103.05247), section 2.1, with two strings of five bits.

    Attributes:
        patterns: number of strings, at least 2.
        length: bits of a string.
    """

    patterns: int = 2
    length: int = 5
    sources: TaskSources = field(default_factory=TaskSources)
    version: ClassVar[str] = "bit_xor/1"

    @property
    def spec(self) -> TaskSpec:
        """Shapes: (batch, patterns * length, 1), read from the last ``length`` tokens."""
        return TaskSpec(
            seq_length=self.patterns * self.length,
            input_kind="features",
            input_size=1,
            num_read=self.length,
            decisions_per_token=1,
            num_classes=2,
        )

    def generate(self, seed: int, count: int) -> Sequences:
        """Draw strings; a target is 1 where an odd number of them has the bit +1."""
        strings = random_signs(derive_seed(seed, "bits"), (count, self.patterns, self.length))
        targets = (strings > 0).sum(axis=1) % 2
        return strings.reshape(count, -1, 1), targets.astype(strings.dtype)
