"""Inputs that are made up: of the sizes that the graph fixes or the user says, else of sizes that models run on.

Sizes on dynamic axes are odd and distinct at first: a dynamic axis then cannot be mistaken for a static one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from math import prod
from typing import TypeVar

import numpy as np

from onnxmi.errors import ModelError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.model.batch_axis import batch_axes, is_free
from onnxmi.runtime.session import Feeds
from onnxmi.typing import Array, Shape

MOST = 1 << 30  # bytes of a synthetic input
MOST_GROWN = 1 << 22  # entries of one whose sizes are tried out
_BATCH = "?batch"  # the symbol of a batch without a name

# Sizes for dynamic axes: (batch, then one per further symbol). Odd primes first; then sizes that image networks with
# strides accept; a convolutional network fails on small ones, a transformer with 512 positions on large ones.
_SIZES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (3, (7, 11, 13, 17, 19, 23)),
    (3, (67, 71, 73, 79, 83, 89)),
    (3, (64, 96, 160, 192, 224, 256)),
    (1, (7, 11, 13, 17, 19, 23)),
    (3, (224, 224, 224, 224, 224, 224)),
)
# Sizes that are not told apart: tokens of a paragraph, pixels of a classifier, small ones.
LENGTHS = (128, 224, 64, 32, 16, 7, 1)
# Then larger and larger, for windows of sound, padding by reflection and long strides.
GROWN = (320, 512, 640, 1024, 1536, 2048, 4096, 8192, 16_000, 16_384, 32_768, 65_536, 131_072, 262_144)
_GROWN_SIZES = tuple((batch, tuple(size + 32 * place for place in range(6))) for size in GROWN for batch in (3, 1))


@dataclass(frozen=True)
class GivenSizes:
    """What a user says of the sizes of inputs.

    Attributes
    ----------
    shapes : mapping of str to tuple of int
        Input -> its shape.
    dims : mapping of str to int
        Symbol of the graph -> its size.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)

    def resolved(self, inputs: Sequence[TensorInfo]) -> dict[str, int]:
        """Return the size of every symbol that is told, also by a shape.

        Raises
        ------
        UsageError
            If there is no such input or symbol, or a shape contradicts the graph or another one.
        """
        by_name = {info.name: info for info in inputs}
        axes = batch_axes(inputs)
        sizes = dict(self.dims)
        for name, shape in self.shapes.items():
            if name not in by_name:
                raise UsageError(f"--shape {name}: the model has no input {name!r}; it has {', '.join(by_name)}")
            for axis, symbol in self._symbols(by_name[name], shape, axes):
                if sizes.setdefault(symbol, shape[axis]) != shape[axis]:
                    raise UsageError(f"--shape {name}: {symbol!r} is {sizes[symbol]} elsewhere, not {shape[axis]}")
        symbols = {symbol for info in inputs for symbol in (info.dims or ()) if isinstance(symbol, str)}
        unknown = sorted(self.dims.keys() - symbols)
        if unknown:
            known = f"has {', '.join(sorted(symbols))}" if symbols else "has none"
            raise UsageError(f"--dim {unknown[0]}: no axis of an input has that name; the model {known}")
        return sizes

    def _symbols(self, info: TensorInfo, shape: Shape, axes: Mapping[str, int]) -> Iterator[tuple[int, str]]:
        """Yield the axes of a shape that have a symbol which other inputs may have, too."""
        dims = info.dims if info.dims is not None else (None,) * len(shape)
        fits = len(dims) == len(shape) and all(
            is_free(dim) or dim == size for dim, size in zip(dims, shape, strict=True)
        )
        if not fits:
            shown = ", ".join("?" if dim is None else str(dim) for dim in dims)
            raise UsageError(f"--shape {info.name}: {shape} does not fit the graph's ({shown})")
        for axis, dim in enumerate(dims):
            if isinstance(dim, str) and dim:
                yield axis, dim
            elif is_free(dim) and axes.get(info.name) == axis:
                yield axis, _BATCH


NO_SIZES = GivenSizes()


def read_sizes(shape: str | Iterable[str] = (), dim: str | Iterable[str] = ()) -> GivenSizes:
    """Read `INPUT=N,N,...` and `SYMBOL=N`, one or several of each.

    Raises
    ------
    UsageError
        If something is not of this form.
    """
    shapes = [_pair("shape", text, _shape, "an input and its sizes such as x=1,512") for text in _texts(shape)]
    dims = [_pair("dim", text, _size, "an axis and its size such as T=512") for text in _texts(dim)]
    return GivenSizes(dict(shapes), dict(dims))


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


Value = TypeVar("Value")


def _pair(option: str, text: str, read: Callable[[str], Value], expected: str) -> tuple[str, Value]:
    name, _, value = text.rpartition("=")
    try:
        if name:
            return name, read(value)
    except ValueError:
        pass
    raise UsageError(f"--{option} {text}: expected {expected}")


def _size(text: str) -> int:
    if (size := int(text)) < 1:
        raise ValueError(text)
    return size


def _shape(text: str) -> Shape:
    return tuple(map(_size, text.split(","))) if text.strip() else ()


# -- sizes ------------------------------------------------------------------------------------------------------------


def attempts(
    inputs: tuple[TensorInfo, ...], feeds: Feeds | None = None, given: GivenSizes = NO_SIZES
) -> Iterator[Feeds]:
    """Yield inputs to try: synthetic ones, then those at hand, then larger and larger synthetic ones."""
    made = MadeInputs(inputs, given)
    yield from made.of_sizes(_SIZES, sys.maxsize)
    if feeds is not None:
        yield feeds
    yield from made.of_sizes(_GROWN_SIZES, MOST_GROWN)


class MadeInputs:
    """Inputs that are made up, each choice of sizes once.

    Parameters
    ----------
    inputs : tuple of TensorInfo
        The graph inputs.
    given : GivenSizes
        What the user says of their sizes.
    """

    def __init__(self, inputs: tuple[TensorInfo, ...], given: GivenSizes = NO_SIZES) -> None:
        self._inputs, self._given = inputs, given
        self._told = given.resolved(inputs)
        self._tried: set[tuple[Shape, ...]] = set()

    @property
    def unknown(self) -> str | None:
        """The first input of which neither the graph nor the user says enough."""
        shaped = [info.name for info in self._inputs if info.dims is not None or info.name in self._given.shapes]
        return next((i.name for i in self._inputs if i.dtype is None or i.name not in shaped), None)

    def of_sizes(self, choices: Iterable[tuple[int, Sequence[int]]], most: int) -> Iterator[Feeds]:
        """Yield inputs for choices of sizes: the batch's, and one for each further symbol.

        Left out are those that were tried, as where nothing is dynamic, and those with an input of more than `most`
        entries.
        """
        axes = batch_axes(self._inputs)
        for batch, others in choices if self.unknown is None else ():
            sizes = _assign(self._inputs, batch, others, self._told)
            shapes = tuple(_shape_of(info, sizes, self._given, axes) for info in self._inputs)
            if shapes not in self._tried and max(map(prod, shapes), default=0) <= most:
                self._tried.add(shapes)
                yield {info.name: _values(info, shape) for info, shape in zip(self._inputs, shapes, strict=True)}


def synthetic_inputs(
    inputs: tuple[TensorInfo, ...], batch: int, others: int, given: GivenSizes = NO_SIZES
) -> dict[str, Array]:
    """Make inputs of one batch, whose other dynamic axes all have one size.

    Raises
    ------
    ModelError
        If the graph does not say how many axes an input has, or of what type it is, or it would be too large.
    """
    made = MadeInputs(inputs, given)
    if made.unknown is not None:
        raise ModelError(f"input {made.unknown!r} has no type and shape, so no synthetic input can be made")
    return dict(next(made.of_sizes([(batch, (others,))], sys.maxsize)))


def shapes_text(feeds: Feeds) -> str:
    """Return what the inputs of a run are like, in words: `x (3, 512), sr ()`."""
    return ", ".join(f"{name} {tuple(np.shape(value))}" for name, value in feeds.items())


def _assign(
    inputs: tuple[TensorInfo, ...], batch: int, others: Sequence[int], told: Mapping[str, int]
) -> dict[str, int]:
    """Give every symbol a size; unnamed axes are named after their position, but for those of the batch."""
    axes = batch_axes(inputs)
    sizes, further = dict(told), cycle(others)
    for info in inputs:
        for axis, dim in enumerate(info.dims or ()):
            symbol = _symbol(dim, axis, axes.get(info.name, 0))
            if symbol is None or symbol in sizes or _terms(symbol):
                continue
            sizes[symbol] = batch if axis == axes.get(info.name, 0) else next(further)
    return sizes


def _symbol(dim: int | str | None, axis: int, batch: int) -> str | None:
    if isinstance(dim, int) and dim > 0:
        return None
    return dim if isinstance(dim, str) and dim else _BATCH if axis == batch else f"?{axis}"


def _terms(symbol: str) -> list[str]:
    """Split a symbol that exporters write as a sum, such as `past_sequence_length + sequence_length`."""
    parts = [part.strip() for part in symbol.split("+")]
    return parts if len(parts) > 1 else []


def _shape_of(info: TensorInfo, sizes: Mapping[str, int], given: GivenSizes, axes: Mapping[str, int]) -> Shape:
    if info.name in given.shapes:
        return given.shapes[info.name]
    assert info.dims is not None
    return tuple(_size_of(dim, axis, sizes, axes.get(info.name, 0)) for axis, dim in enumerate(info.dims))


def _size_of(dim: int | str | None, axis: int, sizes: Mapping[str, int], batch: int) -> int:
    symbol = _symbol(dim, axis, batch)
    if symbol is None:
        assert isinstance(dim, int)
        return dim
    if symbol in sizes:
        return sizes[symbol]
    return sum(int(part) if part.isdigit() else sizes.get(part, 1) for part in _terms(symbol))


def _values(info: TensorInfo, shape: Shape) -> Array:
    """Make an input: small normal numbers, or ones for integers and booleans (valid ids, nothing masked)."""
    assert info.dtype is not None
    if prod(shape) * info.dtype.itemsize > MOST:
        raise ModelError(f"input {info.name!r} of shape {shape} is too large for a synthetic input")
    if info.dtype.kind in "iub":
        return np.ones(shape, dtype=info.dtype)
    if info.dtype.kind == "O":
        return np.full(shape, "a", dtype=object)
    return np.random.default_rng(0).normal(size=shape).astype(info.dtype)
