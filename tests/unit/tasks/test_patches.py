"""Images as patches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpt_ray.tasks import patchify


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    patch_size=st.integers(1, 4),
    channels=st.integers(1, 3),
)
@settings(deadline=None, max_examples=30)
def test_patches_reassemble_to_the_image(
    rows: int, columns: int, patch_size: int, channels: int
) -> None:
    height, width = rows * patch_size, columns * patch_size
    images = torch.arange(2.0 * channels * height * width).reshape(2, channels, height, width)
    tokens = patchify(images, patch_size)
    rebuilt = torch.empty_like(images)
    for index in range(rows * columns):
        top, left = index // columns * patch_size, index % columns * patch_size
        patch = tokens[:, index].reshape(2, patch_size, patch_size, channels)
        window = (slice(top, top + patch_size), slice(left, left + patch_size))
        rebuilt[:, :, window[0], window[1]] = patch.permute(0, 3, 1, 2)
    assert torch.equal(rebuilt, images)


def test_patches_that_do_not_tile_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 5 do not tile images of 28 x 28"):
        patchify(torch.zeros(1, 1, 28, 28), 5)
