"""Which axis of each input holds the samples, as the model itself says: the axis whose symbol is the batch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from onnxmi.model.graph import TensorInfo

_NAMES = ("batch", "bs", "b", "n")  # what exporters and their users call it, the surest first
_UNNAMED = ""  # stands for the batch where axes are free and have no names


def batch_axes(inputs: Sequence[TensorInfo]) -> Mapping[str, int]:
    """Find the axis of samples of each input that tells it.

    The batch is what one symbol says: one that stands first in every input, one with the name of a batch, or one that
    stands first in some input and somewhere in most. Free axes without names are matched only where an input has a
    fixed first size and one free axis behind it.

    Parameters
    ----------
    inputs : sequence of TensorInfo
        The graph inputs.

    Returns
    -------
    mapping of str to int
        Input -> axis. Inputs that lack the symbol are absent, and all are where the batch is fixed.
    """
    symbol = _batch_symbol(inputs)
    if symbol is None:
        return {}
    places = {info.name: _axis_of(info, symbol) for info in inputs}
    return {name: axis for name, axis in places.items() if axis is not None}


def _batch_symbol(inputs: Sequence[TensorInfo]) -> str | None:
    """Return the symbol of the batch; empty text where its axes have no names, None where no first axis is free."""
    firsts = [info.dims[0] for info in inputs if info.dims]
    free = [dim for dim in firsts if is_free(dim)]
    symbols = list(dict.fromkeys(dim for info in inputs for dim in info.dims or () if isinstance(dim, str) and dim))
    named = [(place, symbol) for symbol in symbols if (place := _named_as_batch(symbol)) is not None]
    if named:
        surest = min(place for place, _ in named)
        return _most_common((symbol for place, symbol in named if place == surest), inputs)
    if not free:
        return None
    leading = [dim for dim in free if isinstance(dim, str) and dim]
    return _most_common(leading, inputs) if leading else _UNNAMED


def is_free(dim: int | str | None) -> bool:
    """Whether a graph leaves the size of an axis open."""
    return not (isinstance(dim, int) and dim > 0)


def is_named(info: TensorInfo) -> bool:
    """Whether an axis of an input has the name of a batch."""
    return any(isinstance(dim, str) and _named_as_batch(dim) is not None for dim in info.dims or ())


def _named_as_batch(symbol: str) -> int | None:
    """Return how sure it is that a symbol is the batch's: 0 is surest, None is not at all."""
    lower = symbol.lower()
    if _NAMES[0] in lower and not any(sign in lower for sign in "+-*/"):
        return 0
    return _NAMES.index(lower) if lower in _NAMES else None


def _most_common(symbols: Iterable[str], inputs: Sequence[TensorInfo]) -> str:
    """Return the symbol that stands in the most inputs, the first of those."""
    return max(dict.fromkeys(symbols), key=lambda symbol: sum(symbol in (info.dims or ()) for info in inputs))


def _axis_of(info: TensorInfo, symbol: str) -> int | None:
    dims = info.dims or ()
    if symbol != _UNNAMED:
        return dims.index(symbol) if symbol in dims else None
    free = [axis for axis, dim in enumerate(dims) if is_free(dim)]
    if free and free[0] == 0:
        return 0
    return free[0] if len(free) == 1 and not dims[free[0]] else None
