"""Remote homology: the fold of a protein from its amino acids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fpt_ray.errors import DataError
from fpt_ray.tasks.base import Batch, Split, TaskSources, TaskSpec
from fpt_ray.tasks.examples import Examples
from fpt_ray.tasks.finite import FiniteTask
from fpt_ray.tasks.sequence_task import Origin
from fpt_ray.tasks.tape_files import LETTERS, NUM_FOLDS, TapeSource

RELEASED_CLASSES = 1200
"""Classes of the released code's model; the last five do not occur."""
_RELEASED_START, _RELEASED_END = 2, 3
_RELEASED_FIRST_LETTER = 5
_RELEASED_EXTRA = 2


@dataclass(frozen=True)
class RemoteHomology(FiniteTask):
    """Show a protein amino acid by amino acid; ask for its fold, after the last one.

    Ids are the letters A to Z without J, from 0. Training, validation and the three test splits
    are those that TAPE publishes. Proteins longer than ``max_length`` are not read; those of
    validation and test count as answered wrongly.

    With ``variant="released_code"`` inputs are those of kzl/universal-computation (commit
    82f0d26), which reads TAPE's: 30 ids (padding, mask, start, end and unknown, then the letters
    from 5), a start and an end token that count towards ``max_length``, padding that the model
    sees, an answer read at the last position of the padded batch, and 1200 classes. Its batches
    of proteins of any lengths are not reproduced, since ours hold similar lengths; nor is its
    evaluation, which samples batches of ``valid`` and scales their accuracy by 0.9739.

    Attributes:
        max_length: most tokens of a sequence.
        holdout: which published holdout is the test split.
        variant: ``default`` or ``released_code``.

    Raises:
        DataError: ``max_length`` leaves no room for an amino acid.

    Source: Rao et al., "Evaluating Protein Transfer Learning with TAPE" (2019); Lu et al.,
    "Pretrained Transformers as Universal Computation Engines" (2021).
    """

    max_length: int = 1024
    holdout: Literal["fold", "superfamily", "family"] = "fold"
    variant: Literal["default", "released_code"] = "default"
    sources: TaskSources = field(default_factory=TaskSources)
    version: ClassVar[str] = "remote_homology/1"
    fix_for_dropped: ClassVar[str] = "raise task.max_length"

    def __post_init__(self) -> None:
        """Refuse a length that no protein fits in."""
        least = 1 + (_RELEASED_EXTRA if self._is_released else 0)
        if self.max_length < least:
            raise DataError(
                f"max_length {self.max_length} leaves no room for an amino acid",
                where="task.max_length",
                fix=f"max_length: {least} or more; the paper's is 1024",
            )

    @property
    def varies_in_length(self) -> bool:
        """Proteins differ in length."""
        return True

    @property
    def spec(self) -> TaskSpec:
        """Shapes: (batch, amino acids) ids, read from the last token."""
        released = self._is_released
        return TaskSpec(
            seq_length=self.max_length,
            input_kind="ids",
            input_size=len(LETTERS) + (_RELEASED_FIRST_LETTER if released else 0),
            num_read=1,
            decisions_per_token=1,
            num_classes=RELEASED_CLASSES if released else NUM_FOLDS,
        )

    @property
    def source(self) -> TapeSource:
        """The published proteins."""
        extra = _RELEASED_EXTRA if self._is_released else 0
        return TapeSource(self.sources.data_dir, self.max_length - extra, self.holdout)

    def published_split(self, split: Split) -> str:
        """Name the published split, as ``FiniteTask.published_split`` says; there always is one."""
        holdout = f"test_{self.holdout}_holdout"
        return {"train": "train", "validation": "valid", "test": holdout}[split]

    def is_fixed(self, split: Split) -> bool:
        """Whether proteins are shown alone; the released code shows the padding of their batch."""
        return not self._is_released

    def num_skipped(self, split: Split) -> int:
        """Count proteins of a split that are too long to be read.

        Where only some of the published ones are evaluated, that share of the long ones is
        counted with them.
        """
        count = self.loader.count(self.source, self.published_split(split))
        return round(count.dropped * self.num_examples(split) / count.kept)

    def collate(self, examples: Examples, origin: Origin | None) -> Batch:
        """Turn proteins into ids, padded at the right to the longest of them."""
        lengths = torch.from_numpy(examples.lengths)
        mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
        letters = torch.zeros(mask.shape, dtype=torch.int64)
        letters[mask] = torch.from_numpy(examples.values).long()
        targets = torch.from_numpy(examples.targets).unsqueeze(1)
        if self._is_released:
            return Batch(_released_tokens(letters, mask, lengths), targets)
        return Batch(letters, targets, mask)

    @property
    def _is_released(self) -> bool:
        return self.variant == "released_code"


def _released_tokens(letters: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Number letters as TAPE's tokenizer does, between its start and end tokens."""
    numbered = torch.where(mask, letters + _RELEASED_FIRST_LETTER, 0)
    tokens = torch.nn.functional.pad(numbered, (1, 1))
    tokens[:, 0] = _RELEASED_START
    tokens[torch.arange(len(tokens)), lengths + 1] = _RELEASED_END
    return tokens
