"""Carry a plan into the torch model that a file was exported from: keep the same channels there.

The plan knows layers by the names that the exporter gave to nodes; which modules make and read a layer's channels, the
owner of the code says. The repair that onnxmi made in the file is not carried: training does that work anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onnxmi.graph.plan import Plan


@dataclass(frozen=True)
class Wires:
    """Modules around one layer, by name.

    Attributes
    ----------
    makers, readers : tuple of str
        Modules that put out the layer's channels (a normalisation after a convolution is one), and that take them in.
    made, read : int
        Rows of a maker, and inputs of a reader, that belong to one channel: the size of a head, or the number of
        pixels behind a flatten.
    """

    makers: tuple[str, ...]
    readers: tuple[str, ...]
    made: int = 1
    read: int = 1


def carry(model: nn.Module, plan: Plan, wiring: Mapping[str, Wires]) -> None:
    """Cut the modules of a torch model as a plan says, in place.

    Raises
    ------
    KeyError
        If the wiring of a layer that the plan cuts is not given.
    """
    for choice in plan.choices:
        wires, kept = wiring[choice.layer], torch.from_numpy(choice.kept)
        for name in wires.makers:
            keep_outputs(model.get_submodule(name), widened(kept, wires.made))
        for name in wires.readers:
            keep_inputs(model.get_submodule(name), widened(kept, wires.read))


def widened(kept: Tensor, each: int) -> Tensor:
    """Positions of kept channels where each owns several positions in a row."""
    return (kept[:, None] * each + torch.arange(each)).reshape(-1)


def keep_outputs(module: nn.Module, kept: Tensor) -> None:
    """Keep some outputs of a linear layer, a convolution, a normalisation or a table of words."""
    axis = 1 if isinstance(module, nn.Embedding) else 0
    with torch.no_grad():
        for name, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if value.ndim:
                _put(module, name, value.index_select(axis, kept))
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = (len(kept),)
    _resize(module, ("out_features", "out_channels", "num_features", "embedding_dim"), len(kept))


def keep_inputs(module: nn.Module, kept: Tensor) -> None:
    """Keep some inputs of a linear layer or a convolution without groups."""
    with torch.no_grad():
        _put(module, "weight", module.get_parameter("weight")[:, kept])
    _resize(module, ("in_features", "in_channels"), len(kept))


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    if name in dict(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(value.clone()))
    else:
        setattr(module, name, value.clone())


def _resize(module: nn.Module, names: tuple[str, ...], size: int) -> None:
    for name in names:
        if hasattr(module, name):
            setattr(module, name, size)
