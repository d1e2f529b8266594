"""The role of every parameter, found by the type of the module that holds it and its place."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

from fpt_ray.config import ParameterRole
from fpt_ray.errors import ModelError
from fpt_ray.models.families import Family


def backbone_roles(backbone: nn.Module, family: Family, prefix: str) -> Iterator[ParameterRole]:
    """Assign every parameter of a backbone to its group and layer.

    Args:
        backbone: a module that the family built.
        family: knows what its modules are for.
        prefix: put before the names.

    Raises:
        ModelError: a module that holds parameters has no known role.
    """
    tables = {backbone.get_submodule(path): group for path, group in family.tables.items()}
    layers = {
        module: layer
        for layer, block in enumerate(backbone.get_submodule(family.blocks).children())
        for module in block.modules()
    }
    owners = {
        module: group
        for owner in backbone.modules()
        if (group := family.owners.get(type(owner))) is not None
        for module in owner.modules()
    }
    for path, module in backbone.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            group = tables.get(module) or _group(module, family, owners.get(module))
            if group is None:
                raise ModelError(
                    f"the role of {path}.{name} in a {type(module).__name__} is unknown",
                    where=f"backbone family {family.name}",
                    fix="add the module's type to the family in fpt_ray/models/families",
                )
            layer = None if module in tables else layers.get(module)
            yield ParameterRole(f"{prefix}{path}.{name}", group, layer, parameter.numel())


def _group(module: nn.Module, family: Family, owner: str | None) -> str | None:
    if isinstance(module, family.norms):
        return "layer_norm"
    return owner if isinstance(module, nn.Linear | Conv1D) else None
