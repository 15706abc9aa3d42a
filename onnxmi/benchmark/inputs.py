"""Inputs to time a model on: samples from a file, or made up from the types of the graph's inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxmi.data.calibration import Calibration
from onnxmi.errors import ModelError, UsageError
from onnxmi.model import Model
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.synthetic import GROWN, LENGTHS, MOST_GROWN, NO_SIZES, GivenSizes, MadeInputs, synthetic_inputs


def fixed_batch(model: Model, sizes: GivenSizes = NO_SIZES) -> int | None:
    """Return the number of samples that the graph fixes, or the user, or None."""
    inputs = model.graph.inputs
    axes, told = batch_axes(inputs), sizes.resolved(inputs)
    for info in inputs:
        if info.name in sizes.shapes and info.name in axes:
            return sizes.shapes[info.name][axes[info.name]]
        symbol = (info.dims or ())[axes[info.name]] if info.name in axes else None
        if isinstance(symbol, str) and symbol in told:
            return told[symbol]
    first = None if axes else next((info.dims[0] for info in inputs if info.dims), None)
    return first if isinstance(first, int) and first > 0 else None


def bench_inputs(
    model: Model,
    data: Calibration | None,
    batch: int | None = None,
    length: int | None = None,
    sizes: GivenSizes = NO_SIZES,
) -> Feeds:
    """Return inputs of one run.

    Parameters
    ----------
    model : Model
        The model.
    data : Calibration or None
        Samples for this model; the first ones are used, again and again where there are too few. None makes inputs up:
        normal numbers, and ones for integers.
    batch : int, optional
        Samples a run; what the graph fixes, or 1.
    length : int, optional
        Size of every other dynamic axis, such as a sequence. Samples are cut to it. Without it they stay as they are,
        and synthetic inputs get the first of `LENGTHS` and of larger ones that the model runs on.
    sizes : GivenSizes
        What the user says of the sizes of synthetic inputs.

    Raises
    ------
    UsageError
        If the model fixes another batch, has no other dynamic axis, or the samples are shorter.
    ModelError
        If inputs cannot be made up for the model.
    """
    fixed = fixed_batch(model, sizes) if data is None else data.step
    if batch is not None and fixed is not None and batch != fixed:
        raise UsageError(f"{_name(model)}: fixes a batch of {fixed}; a batch of {batch} is not possible")
    samples = batch or fixed or 1
    if length is not None and not _has_other_axes(model):
        raise UsageError(f"{_name(model)}: has no dynamic axis besides the batch; a sequence length has no effect")
    if data is not None:
        feeds = data.feed(np.resize(np.arange(data.count), samples))
        return feeds if length is None else _shortened(model, feeds, data.whole, length)
    if length is not None or not _has_other_axes(model):
        return synthetic_inputs(model.graph.inputs, samples, length or 1, sizes)
    return _first_that_runs(model, samples, sizes)


def _name(model: Model) -> str:
    return str(model.path or "the model")


def _other_axes(model: Model) -> Iterator[tuple[str, int]]:
    """Yield (input, axis) for every dynamic axis but the batch."""
    axes = batch_axes(model.graph.inputs)
    for info in model.graph.inputs:
        for axis, dim in enumerate(info.dims or ()):
            if axis != axes.get(info.name, 0) and is_free(dim):
                yield info.name, axis


def _has_other_axes(model: Model) -> bool:
    return next(_other_axes(model), None) is not None


def _shortened(model: Model, feeds: Feeds, whole: frozenset[str], length: int) -> Feeds:
    cut = dict(feeds)
    for name, axis in _other_axes(model):
        if name in whole:
            continue
        if cut[name].shape[axis] < length:
            raise UsageError(f"the samples' {name!r} has a length of {cut[name].shape[axis]}, shorter than {length}")
        cut[name] = np.ascontiguousarray(cut[name].take(np.arange(length), axis))
    return cut


def _first_that_runs(model: Model, samples: int, sizes: GivenSizes) -> Feeds:
    session, made = open_session(model.proto), MadeInputs(model.graph.inputs, sizes)
    for feeds in made.of_sizes([(samples, (length,)) for length in (*LENGTHS, *GROWN)], MOST_GROWN):
        try:
            session.run(feeds)
        except ModelError:
            continue
        return feeds
    raise ModelError(f"{_name(model)}: does not run on synthetic inputs; give it samples with --data, or a --sequence")
