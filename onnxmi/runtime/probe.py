"""One look at every tensor of a model: concrete shapes and small integer values.

Static shape inference leaves holes in real exports, so the model is run under onnxruntime on synthetic inputs with odd,
distinct sizes on its dynamic axes: a dynamic axis then cannot be mistaken for a static one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from onnxmi.errors import ModelError, stage
from onnxmi.model import Model, TensorInfo
from onnxmi.runtime.session import Feeds, as_numpy, open_session
from onnxmi.typing import Array

MOST = 1 << 30  # bytes of a synthetic input
SMALL = 4096  # integer tensors up to this size are remembered with their values: they are shape arithmetic


@dataclass(frozen=True)
class Probe:
    """What a run showed.

    Attributes
    ----------
    shapes : mapping of tensor name to shape
        Tensors that are no arrays (sequences, maps) are absent.
    values : mapping of tensor name to array
        Small integer tensors.
    dtypes : mapping of tensor name to numpy dtype
        Of every tensor that a node makes, and of the inputs.
    feeds : mapping of graph input name to array
        What was fed.
    """

    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Array]
    dtypes: Mapping[str, np.dtype[Any]]
    feeds: Feeds


# Sizes for dynamic axes: (batch, then one per further symbol). Odd primes first; then sizes that image networks with
# strides accept; a convolutional network fails on small ones, a transformer with 512 positions on large ones.
_SIZES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (7, 11, 13, 17, 19, 23)),
    (3, (67, 71, 73, 79, 83, 89)),
    (3, (64, 96, 160, 192, 224, 256)),
    (1, (7, 11, 13, 17, 19, 23)),
    (3, (224, 224, 224, 224, 224, 224)),
)


@stage("probe")
def probe(model: Model, feeds: Feeds | None = None) -> Probe:
    """Run the model on synthetic inputs, or on `feeds` where those do not work.

    Raises
    ------
    ModelError
        If onnxruntime runs the model on no inputs that were tried; the message is that of the first attempt.
    """
    graph = model.graph
    names = [name for name in dict.fromkeys(_all_tensors(model)) if name]
    session = open_session(model.proto, taps=names, optimise=False)
    first_error: ModelError | None = None
    for attempt in _attempts(graph.inputs, feeds):
        try:
            return _report(model, attempt, as_numpy(session.run(attempt)))
        except ModelError as error:
            first_error = first_error or error
    raise first_error or ModelError("the model has no inputs to try")


def _all_tensors(model: Model) -> Iterator[str]:
    for node in model.graph.nodes:
        yield from node.outputs


def _report(model: Model, feeds: Feeds, seen: Mapping[str, Array]) -> Probe:
    shapes = {name: model.graph.constant_shape(name) for name in model.graph.constants}
    shapes |= {name: tuple(value.shape) for name, value in feeds.items()}
    shapes |= {name: tuple(value.shape) for name, value in seen.items()}
    values = {name: value for name, value in seen.items() if value.dtype.kind in "iub" and value.size <= SMALL}
    dtypes = {name: value.dtype for name, value in [*feeds.items(), *seen.items()]}
    return Probe(shapes, values, dtypes, feeds)


def _attempts(inputs: tuple[TensorInfo, ...], feeds: Feeds | None) -> Iterator[Feeds]:
    """Yield inputs to try: synthetic ones with each choice of sizes, then the given ones."""
    made = all(info.dims is not None and info.dtype is not None for info in inputs)
    for batch, others in _SIZES if made else ():
        sizes = _assign(inputs, batch, others)
        yield {info.name: _synthetic_input(info, sizes) for info in inputs}
        if not sizes:  # nothing is dynamic: other sizes would make the same inputs
            break
    if feeds is not None:
        yield feeds


def _assign(inputs: tuple[TensorInfo, ...], batch: int, others: tuple[int, ...]) -> dict[str, int]:
    """Give every symbol a size; unnamed axes are named after their position."""
    sizes: dict[str, int] = {}
    for info in inputs:
        for axis, dim in enumerate(info.dims or ()):
            symbol = _symbol(dim, axis)
            if symbol is None or symbol in sizes or _terms(symbol):
                continue
            sizes[symbol] = batch if axis == 0 else others[len([s for s in sizes.values() if s != batch]) % len(others)]
    return sizes


def _symbol(dim: int | str | None, axis: int) -> str | None:
    if isinstance(dim, int):
        return None if dim > 0 else f"?{axis}"
    return dim or f"?{axis}"


def _terms(symbol: str) -> list[str]:
    """Split a symbol that exporters write as a sum, such as `past_sequence_length + sequence_length`."""
    parts = [part.strip() for part in symbol.split("+")]
    return parts if len(parts) > 1 else []


def _size(dim: int | str | None, axis: int, sizes: Mapping[str, int]) -> int:
    symbol = _symbol(dim, axis)
    if symbol is None:
        assert isinstance(dim, int)
        return dim
    if symbol in sizes:
        return sizes[symbol]
    return sum(int(part) if part.isdigit() else sizes.get(part, 1) for part in _terms(symbol))


def synthetic_inputs(inputs: tuple[TensorInfo, ...], batch: int, others: int) -> dict[str, Array]:
    """Make inputs of one batch, whose other dynamic axes all have one size.

    Raises
    ------
    ModelError
        If the graph does not say how many axes an input has, or of what type it is.
    """
    for info in inputs:
        if info.dims is None or info.dtype is None:
            raise ModelError(f"input {info.name!r} has no type and shape, so no synthetic input can be made")
    sizes = _assign(inputs, batch, (others,))
    return {info.name: _synthetic_input(info, sizes) for info in inputs}


def _synthetic_input(info: TensorInfo, sizes: Mapping[str, int]) -> Array:
    """Make an input: small normal numbers, or ones for integers and booleans (valid ids, nothing masked)."""
    assert info.dims is not None
    assert info.dtype is not None
    shape = tuple(_size(dim, axis, sizes) for axis, dim in enumerate(info.dims))
    if prod(shape) * info.dtype.itemsize > MOST:
        raise ModelError(f"input {info.name!r} of shape {shape} is too large for a synthetic input")
    if info.dtype.kind in "iub":
        return np.ones(shape, dtype=info.dtype)
    if info.dtype.kind == "O":
        return np.full(shape, "a", dtype=object)
    return np.random.default_rng(0).normal(size=shape).astype(info.dtype)


def run_shapes(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a node makes when the model runs on given inputs."""
    return {name: shape for name, (_, shape) in run_types(proto, feeds).items()}


def run_types(proto: onnx.ModelProto, feeds: Feeds) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the type and shape of every tensor that a node makes when the model runs on given inputs."""
    names = [out for node in proto.graph.node for out in node.output if out]
    session = open_session(proto, taps=list(dict.fromkeys(names)), optimise=False)
    return {name: (value.dtype, tuple(value.shape)) for name, value in as_numpy(session.run(feeds)).items()}
