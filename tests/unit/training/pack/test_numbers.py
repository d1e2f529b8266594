"""Parameters in flat vectors."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fpt_ray.training.pack.numbers import ALIGNMENT, CHUNK, Layout, Numbers

CPU = torch.device("cpu")

shapes_and_moving = st.lists(
    st.tuples(st.lists(st.integers(1, 7), max_size=3), st.booleans()), min_size=1, max_size=8
)


@given(shapes_and_moving, st.integers(1, 3))
def test_parameters_lie_apart_aligned_and_moving_ones_first(
    parameters: list[tuple[list[int], bool]], num_trials: int
) -> None:
    shapes = {f"p{i}": torch.Size(shape) for i, (shape, _) in enumerate(parameters)}
    moving = [f"p{i}" for i, (_, moves) in enumerate(parameters) if moves]
    layout = Layout(shapes, moving)
    flat = torch.zeros(num_trials, layout.size)
    for number, name in enumerate(shapes, 1):
        view = layout.view(flat, name)
        assert view.shape == (num_trials, *shapes[name])
        assert (view.data_ptr() - flat.data_ptr()) // 4 % ALIGNMENT == 0
        assert not view.any()
        view.fill_(number)
    assert layout.num_moving % CHUNK == 0
    assert layout.moving == tuple(moving)
    used = flat[:, : layout.num_moving]
    assert (used != 0).sum() == num_trials * sum(shapes[name].numel() for name in moving)


def test_numbers_move_to_another_layout_and_back() -> None:
    shapes = {name: torch.Size([2, 3]) for name in "abc"}
    own = Numbers.zeros(Layout({n: shapes[n] for n in "ac"}, "a"), CPU)
    own.values.copy_(torch.arange(own.layout.size).float())
    own.moments("a")["exp_avg"].fill_(2.0)
    own.moments("a")["exp_avg_sq"].fill_(3.0)
    pack = Numbers.zeros(Layout(shapes, "ba"), CPU)
    for moment in (pack.exp_avg, pack.exp_avg_sq):
        moment.fill_(9.0)
    pack.take(own, {"b": torch.full((2, 3), 5.0)})
    assert torch.equal(pack.value("a"), own.value("a"))
    assert torch.equal(pack.value("c"), own.value("c"))
    assert (pack.value("b") == 5).all()
    assert (pack.moments("a")["exp_avg"] == 2).all()
    assert (pack.moments("a")["exp_avg_sq"] == 3).all()
    assert not any(moment.any() for moment in pack.moments("b").values())
    back = Numbers.zeros(own.layout, CPU)
    back.take(pack, {})
    for name in "ac":
        assert torch.equal(back.value(name), own.value(name))
    assert (back.moments("a")["exp_avg"] == 2).all()


def test_equal_layouts_are_equal() -> None:
    shapes = {name: torch.Size([2]) for name in "ab"}
    assert Layout(shapes, "a") == Layout(dict(shapes), ["a"])
    assert hash(Layout(shapes, "a")) == hash(Layout(dict(shapes), ["a"]))
    assert Layout(shapes, "a") != Layout(shapes, "b")
    assert Layout(shapes, "a") != Layout({**shapes, "a": torch.Size([3])}, "a")
    assert Layout(shapes, "a") != "another thing"
