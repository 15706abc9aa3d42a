"""Samples that follow each other: what a model's states go on from, and which output each state comes out of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError
from onnxmi.typing import Array, Ints, Samples

STATES = "onnxmi.states"  # an array of this name has pairs: an input that is a state, and the output it comes out of


def stored_states(states: Mapping[str, str]) -> Array:
    """Return pairs of input and output as a file of samples holds them, (states, 2) text."""
    return np.array(list(states.items()), dtype=np.str_).reshape(-1, 2)


def read_states(stored: SampleArray | None, inputs: Collection[str], where: str) -> dict[str, str]:
    """Read the pairs that a file of samples holds; nothing where it has none.

    Raises
    ------
    CalibrationError
        If they are no pairs, or of inputs that the model does not have.
    """
    if stored is None:
        return {}
    pairs = np.asarray(stored).tolist() if stored.dtype.kind == "U" and stored.shape[1:] == (2,) else None
    if pairs is None or not {name for name, _ in pairs} <= set(inputs):
        raise CalibrationError(f"{where}: {STATES!r}: expected pairs of an input of the model and an output")
    return dict(pairs)


def steps_of(sequences: Ints, samples: Samples) -> Iterator[tuple[Samples, Samples]]:
    """Divide samples into steps: each goes on from one in the step before, except in the first.

    Parameters
    ----------
    sequences : (count,) int64
        Samples of one number follow each other, in their order.
    samples : (n,) int64
        Some of them, in any order. One whose predecessor is not among them stands in the first step.

    Yields
    ------
    (samples, predecessors) of one step; the predecessors are empty in the first.
    """
    before = np.full(len(sequences), -1)
    order = np.argsort(sequences, kind="stable")
    alike = sequences[order[1:]] == sequences[order[:-1]]
    before[order[1:][alike]] = order[:-1][alike]
    waiting = np.sort(samples)
    first = ~np.isin(before[waiting], waiting)
    step, waiting = waiting[first], waiting[~first]
    yield step, step[:0]
    while len(waiting):
        ready = np.isin(before[waiting], step)
        step, waiting = waiting[ready], waiting[~ready]
        yield step, before[step]
