"""Padding masks: the inputs that say which positions count, and which operators run over just these positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxmi.axes.terms import Axes, atoms
from onnxmi.errors import UsageError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.typing import Array, Bools


@dataclass(frozen=True)
class Mask:
    """A graph input that is zero at padding; `transposed` where the rows run over its second axis first."""

    name: str
    transposed: bool = False

    def flat(self, array: Array) -> Bools:
        """Whether each row counts."""
        return np.asarray((array.T if self.transposed else array).reshape(-1) != 0)


def padding_masks(
    model: Model, graph: ChannelGraph, linears: Sequence[Linear], name: str | None = None
) -> dict[str, Mask]:
    """Linear key -> the attention mask over just its positions, where the model has such an input.

    Positions are matched by the probe's sizes: those are distinct primes on dynamic axes, and exporters compute with
    the mask's axes in ways that leave no tie between them and the tokens'.

    Parameters
    ----------
    name : str, optional
        The input that is the mask; without it, inputs with "mask" in their name are.
    """
    masks = mask_inputs(model, graph, name)
    found: dict[str, Mask] = {}
    for linear in linears:
        leading = None if linear.kernel else sizes(graph.axes[linear.taps[0]][:-1])
        for mask, shape in masks.items():
            if leading is not None and prod(leading) == prod(shape):
                found[linear.key] = Mask(mask, transposed=len(shape) == 2 and leading == shape[::-1] != shape)
    return found


def mask_inputs(model: Model, graph: ChannelGraph, name: str | None = None) -> dict[str, tuple[int, ...]]:
    """Return the inputs that are padding masks, with the probe's sizes.

    Raises
    ------
    UsageError
        If the model has no input of that name.
    """
    inputs = [info.name for info in model.graph.inputs]
    if name is not None and name not in inputs:
        raise UsageError(f"the model has no input {name!r} to be the padding mask; it has {', '.join(inputs)}")
    wanted = [name] if name is not None else [i for i in inputs if "mask" in i.lower()]
    return {i: sizes(graph.axes[i]) for i in wanted if i in graph.axes}


def sizes(axes: Axes) -> tuple[int, ...]:
    """Sizes of the atoms of several axes, without those of size 1."""
    return tuple(atom.size for term in axes for atom in atoms(term) if atom.size != 1)
