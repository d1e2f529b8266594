"""The control without a backbone."""

from __future__ import annotations

import torch

from fpt_ray.models import Ends, NoBackbone, SequenceModel, draw_ends, materialise, parameter_roles


def test_the_output_layer_reads_the_embedded_tokens() -> None:
    body = NoBackbone(6)
    model = SequenceModel(body, Ends("features", 3, num_read=2, num_logits=4), dropout=0.1)
    draw_ends(model.input_layer, model.output_layer, 1.41, seed=0)
    names = frozenset(name for name, _ in model.named_parameters())
    materialise(model, body, names, 0, torch.device("cpu"))
    tokens = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    first, last = model.input_layer[0], model.output_layer[0]
    expected = last(first(tokens))[:, -2:]
    torch.testing.assert_close(model.eval()(tokens), expected)


def test_only_the_ends_have_parameters() -> None:
    body = NoBackbone(6)
    model = SequenceModel(body, Ends("ids", 3, 1, 4), 0.1)
    roles = parameter_roles(model, body)
    assert {role.group for role in roles} == {"input", "output"}
    assert len(roles) == len(list(model.parameters()))


def test_its_size_is_its_fingerprint() -> None:
    assert NoBackbone(768).fingerprint() == "no_backbone-768"
    assert NoBackbone(768).weights(0).tensors == {}
