"""Selectors pick parameters by group and layer."""

from __future__ import annotations

import pytest

from fpt_ray.config import GROUPS, known_shape, parse_selectors, resolve
from fpt_ray.config.selectors import ParameterRole, Selector, Term
from fpt_ray.errors import ModelError

ROLES = tuple(
    ParameterRole(name, group, layer, 1)
    for name, group, layer in [
        ("in", "input", None),
        ("out", "output", None),
        ("ln", "layer_norm", None),
        *((f"ln{layer}", "layer_norm", layer) for layer in range(3)),
        *((f"at{layer}", "attention", layer) for layer in range(3)),
    ]
)
EVERYTHING = {role.name for role in ROLES}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["input"], {"in"}),
        (["input", "output", "input"], {"in", "out"}),
        (["layer_norm"], {"ln", "ln0", "ln1", "ln2"}),
        (["layer_norm[0]"], {"ln0"}),
        (["layer_norm[1:]"], {"ln1", "ln2"}),
        (["attention[-1]"], {"at2"}),
        (["attention[0:2]"], {"at0", "at1"}),
        (["attention[ : -1 ]"], {"at0", "at1"}),
        (["all"], EVERYTHING),
        (["all - attention"], EVERYTHING - {"at0", "at1", "at2"}),
        (["all-attention[0:3]-layer_norm[-1]"], {"in", "out", "ln", "ln0", "ln1"}),
        (["attention - attention[0]", "input"], {"at1", "at2", "in"}),
    ],
)
def test_selectors_name_parameters(texts, names):
    assert resolve(texts, ROLES) == names


@pytest.mark.parametrize(
    "text",
    [
        "positions",
        "attention[3]",
        "attention[-4]",
        "attention[2:1]",
        "all - positions",
        "all - all",
    ],
)
def test_selector_that_matches_nothing_is_named(text):
    with pytest.raises(ModelError) as caught:
        resolve(["input", text], ROLES)
    assert caught.value.problem.what == f"selector {text!r} matches nothing"
    assert caught.value.problem.fix


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("atention", "'atention' is not a parameter group", "attention; groups are input, "),
        ("zzz", "'zzz' is not a parameter group", "groups are input, "),
        ("input[0]", "'input[0]': input has no layers to choose from", "input"),
        ("attention[a]", "'attention[a]': 'a' is neither a layer nor a range", "a group, "),
        ("attention[0:6:2]", "'attention[0:6:2]': '0:6:2' is neither a layer", "a group, "),
        ("", "'' is not a selector", 'a group, "attention[-1]"'),
        ("all - ", "'all - ' is not a selector", 'a group, "attention[-1]"'),
    ],
)
def test_malformed_selectors_are_refused(text, what, fix):
    with pytest.raises(ModelError) as caught:
        parse_selectors([text])
    assert caught.value.problem.what.startswith(what)
    assert (caught.value.problem.fix or "").startswith(fix)


def test_selectors_are_parsed():
    assert parse_selectors(["all - attention[0:3]"]) == (
        Selector("all - attention[0:3]", Term("all"), (Term("attention", slice(0, 3)),)),
    )


@pytest.mark.parametrize(
    ("backbone", "missing"), [("bert-base-uncased", set()), ("gpt2", {"other"})]
)
def test_shapes_tell_which_groups_there_are(backbone, missing):
    shape = known_shape(backbone)
    assert shape is not None
    assert {role.group for role in shape.roles()} == set(GROUPS) - missing - {"recurrent"}
    assert resolve(["attention[11]"], shape.roles()) == {"attention.11"}
