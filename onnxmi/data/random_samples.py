"""Samples for a first try without data: random numbers, tokens that exist, and nothing masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxmi.data.calibration import RANDOM
from onnxmi.data.sources.read import ReadSamples
from onnxmi.data.sources.tokens import role_of
from onnxmi.data.stored import SampleArray, SampleWriter
from onnxmi.errors import ModelError
from onnxmi.model import Graph, Model, TensorInfo
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.synthetic import GROWN, LENGTHS, MOST_GROWN, NO_SIZES, GivenSizes, MadeInputs
from onnxmi.typing import Array, Shape

CHUNK = 64  # samples that are made at once
_COPIES = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape")  # what tokens may go through to their table


def random_samples(model: Model, count: int, seed: int = 0, sizes: GivenSizes = NO_SIZES) -> ReadSamples:
    """Make samples of sizes that the model runs on, marked as random.

    Floats are normal, images in whole numbers go from 0 to 127, tokens are those of the model's table, masks are ones,
    positions are counted, and other whole numbers are 1.

    Raises
    ------
    ModelError
        If the model runs on no made-up inputs that were tried.
    """
    inputs, feeds = model.graph.inputs, _first_that_runs(model, sizes)
    axes = _sample_axes(inputs)
    arrays: dict[str, SampleArray] = {RANDOM: np.ones((), np.bool_)}
    for number, info in enumerate(inputs):
        draw = _Draw.of(model.graph, info, np.random.default_rng([seed, number]))
        shape = feeds[info.name].shape
        if info.name not in axes:
            arrays[info.name] = draw(shape)
            continue
        axis, writer = axes[info.name], SampleWriter(axes[info.name])
        for start in range(0, count, CHUNK):
            writer.add(draw((*shape[:axis], min(CHUNK, count - start), *shape[axis + 1 :])))
        arrays[info.name] = writer.array()
    return ReadSamples(arrays, f"{count} random samples", (), {name: axis for name, axis in axes.items() if axis})


def _first_that_runs(model: Model, sizes: GivenSizes) -> Feeds:
    made, session = MadeInputs(model.graph.inputs, sizes), open_session(model.proto)
    first: ModelError | None = None
    for feeds in made.of_sizes([(1, (length,)) for length in (*LENGTHS, *GROWN)], MOST_GROWN):
        try:
            session.run(feeds)
        except ModelError as error:
            first = first or error
        else:
            return feeds
    raise first or ModelError(f"input {made.unknown!r} has no type and shape, so nothing can be made up")


def _sample_axes(inputs: tuple[TensorInfo, ...]) -> dict[str, int]:
    """Return the axis of samples of each input that has one; where the batch is fixed, the first of like sizes."""
    axes = dict(batch_axes(inputs))
    if axes:
        return axes
    firsts = {info.name: info.dims[0] for info in inputs if info.dims and not is_free(info.dims[0])}
    batch = next(iter(firsts.values()), None)
    return {name: 0 for name, dim in firsts.items() if dim == batch}


@dataclass(frozen=True, eq=False)
class _Draw:
    """How the values of one input are drawn."""

    dtype: np.dtype[np.generic]
    values: Callable[[Shape], Array]

    def __call__(self, shape: Shape) -> Array:
        return np.asarray(self.values(shape)).astype(self.dtype)

    @staticmethod
    def of(graph: Graph, info: TensorInfo, rng: np.random.Generator) -> _Draw:
        dtype = info.dtype if info.dtype is not None else np.dtype(np.float32)
        if dtype.kind == "O":
            return _Draw(dtype, lambda shape: np.full(shape, "a", dtype=object))
        role = role_of(info)
        table = _table_rows(graph, info.name)
        if role == "mask" or (role is None and dtype.kind in "iub" and len(info.dims or ()) < 4):
            return _Draw(dtype, np.ones)
        if role == "types":
            return _Draw(dtype, np.zeros)
        if role == "positions":
            return _Draw(dtype, lambda shape: np.broadcast_to(np.arange(shape[-1]), shape))
        if role == "ids":
            return _Draw(dtype, lambda shape: rng.integers(0, table or 2, size=shape))
        if dtype.kind in "iub":
            return _Draw(dtype, lambda shape: rng.integers(0, 2 if dtype == np.bool_ else 128, size=shape))
        return _Draw(dtype, lambda shape: rng.normal(size=shape))


def _table_rows(graph: Graph, name: str) -> int | None:
    """Return how many rows the smallest table has that an input looks things up in."""
    rows: list[int] = []
    names = [name]
    while names:
        for node, operand in graph.consumers.get(names.pop(), ()):
            if node.op in _COPIES and operand == 0:
                names.append(node.outputs[0])
            elif node.op == "Gather" and operand == 1 and graph.is_constant(node.inputs[0]):
                rows.append(graph.constant_shape(node.inputs[0])[node.attributes.get("axis", 0)])
    return min(rows, default=None)
