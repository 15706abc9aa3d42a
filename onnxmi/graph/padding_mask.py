"""Padding masks: which input says what counts, which operators run over that, and whether the rest can be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from onnxmi.axes.terms import Axes, atoms
from onnxmi.data.calibration import Calibration
from onnxmi.data.padding import Padding
from onnxmi.errors import ModelError, UsageError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.runtime.session import as_numpy, open_session
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


WORTH = 0.9  # share of positions that count from which on nothing is gained
SAME = 1e-3  # largest difference of an output, relative to its largest value, that rounding makes


def packed(model: Model, graph: ChannelGraph, calibration: Calibration, mask: str | None, threads: int) -> Calibration:
    """Return the calibration with its padding told, if the model gives the same without it.

    Files are padded to their longest sample, so most of what is run on short ones can be padding. It is left out of
    the batches where the mask says what it is, the model takes shorter inputs, and its shortest sample has the same
    outputs either way.
    """
    for name in mask_inputs(model, graph, mask):
        array = calibration.arrays.get(name)
        apart = calibration.whole.union(calibration.axes)  # not (samples, positions, ...)
        if array is None or array.ndim != 2 or name in apart or calibration.step is not None:
            continue
        alike = {n for n, a in calibration.arrays.items() if a.ndim > 1 and a.shape[:2] == array.shape}
        padding = Padding.of(np.asarray(array), frozenset(alike - apart))
        padded = padding.lengths.mean() < WORTH * array.shape[1]
        if padded and _makes_no_difference(model, calibration, padding, threads):
            return replace(calibration, padding=padding)
    return calibration


def _makes_no_difference(model: Model, calibration: Calibration, padding: Padding, threads: int) -> bool:
    shortest = np.argsort(padding.lengths, kind="stable")[:1]
    whole, longest = calibration.feed(shortest), padding.longest(shortest)
    trimmed = {name: padding.trim(name, array, longest) for name, array in whole.items()}
    session = open_session(model.proto, threads=threads)
    try:
        before, after = (as_numpy(session.run(feeds)) for feeds in (whole, trimmed))
    except ModelError:
        return False
    for name, short in after.items():
        full = before[name]
        if full.ndim != short.ndim or short.dtype.kind not in "fiub":
            return False
        common = full[tuple(slice(size) for size in short.shape)]
        if common.shape != short.shape or not np.allclose(common, short, rtol=0, atol=SAME * (np.abs(full).max() or 1)):
            return False
    return True
