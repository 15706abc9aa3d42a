"""States of which a cut keeps some units: the model can still be fed with the original's states, and compared with it.

A model whose state inputs and outputs were cut says in its metadata which units they are of. Whoever runs it on the
original's states takes these out of what goes in, and puts what comes out in their places among zeros.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.typing import Array, Ints

KEY = "onnxmi.states"  # of the metadata


@dataclass(frozen=True, eq=False)
class NarrowState:
    """A state input or output with some of the original's units.

    Attributes
    ----------
    tensor : str
        Its name.
    sizes : tuple of int or None
        The original's size of each axis; None where an axis is whole.
    index : tuple of array or None
        Which of them stay, in the form that numpy indexes by; None where an axis is whole.
    """

    tensor: str
    sizes: tuple[int | None, ...]
    index: tuple[Ints | None, ...]

    @property
    def cut_axes(self) -> tuple[tuple[int, int, Ints], ...]:
        """The axes that are cut, with the original's size and what stays of it."""
        each = enumerate(zip(self.sizes, self.index, strict=True))
        return tuple((axis, size, kept) for axis, (size, kept) in each if size is not None and kept is not None)

    def is_whole(self, value: Array) -> bool:
        """Whether a value is one of the original's."""
        return value.ndim == len(self.sizes) and all(
            size is None or size == here for size, here in zip(self.sizes, value.shape, strict=True)
        )

    def narrowed(self, value: Array) -> Array:
        """Return what stays of one of the original's values."""
        return np.ascontiguousarray(value[self._places(value.shape)])

    def widened(self, value: Array) -> Array:
        """Return a value as the original's would be, with zeros for the units that are gone."""
        whole = tuple(here if size is None else size for size, here in zip(self.sizes, value.shape, strict=True))
        result = np.zeros(whole, value.dtype)
        result[self._places(whole)] = value
        return result

    def _places(self, shape: Sequence[int]) -> tuple[Ints, ...]:
        return tuple(
            _along(np.arange(size), axis, len(shape)) if kept is None else kept
            for axis, (size, kept) in enumerate(zip(shape, self.index, strict=True))
        )


def _along(kept: Ints, axis: int, rank: int) -> Ints:
    return kept.reshape([-1 if other == axis else 1 for other in range(rank)])


def narrow_states(proto: onnx.ModelProto) -> dict[str, NarrowState]:
    """Return the narrow states of a model by their names; nothing where it says of none, or not in this form."""
    text = next((entry.value for entry in proto.metadata_props if entry.key == KEY), "")
    try:
        return {name: _read(name, entry) for name, entry in json.loads(text or "{}").items()}
    except (ValueError, TypeError, KeyError, AttributeError):  # another tool's entry
        return {}


def _read(name: str, entry: Mapping[str, Sequence[object]]) -> NarrowState:
    rank = len(entry["sizes"])
    index = [None if kept is None else np.array(kept, dtype=np.int64) for kept in entry["kept"]]
    sizes = tuple(None if size is None else int(str(size)) for size in entry["sizes"])
    shaped = (
        kept if kept is None or kept.ndim == rank else _along(kept.reshape(-1), axis, rank)
        for axis, kept in enumerate(index)
    )
    return NarrowState(name, sizes, tuple(shaped))


def say_narrow(proto: onnx.ModelProto, states: Sequence[NarrowState]) -> None:
    """Write down in a model's metadata which units its states are of, instead of what it said before."""
    others = [entry for entry in proto.metadata_props if entry.key != KEY]
    del proto.metadata_props[:]
    proto.metadata_props.extend(others)
    if states:
        text = json.dumps({state.tensor: _written(state) for state in states})
        proto.metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=text))


def _written(state: NarrowState) -> dict[str, Sequence[object]]:
    """Indices of one axis as a plain list, so that people can read them."""
    kept = [
        None if one is None else (one.reshape(-1) if one.size == max(one.shape, default=0) else one).tolist()
        for one in state.index
    ]
    return {"sizes": state.sizes, "kept": kept}


def narrower(old: onnx.ModelProto, new: onnx.ModelProto) -> dict[str, NarrowState]:
    """Return the states of a model that are narrower than those of the one that it was made from."""
    before, after = ({e.key: e.value for e in proto.metadata_props}.get(KEY) for proto in (old, new))
    return {} if before == after else narrow_states(new)


def with_whole_states(old: onnx.ModelProto, new: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that declares its narrower states as the one that it was made from does.

    A size that is not that of the units that stay is left as it is.
    """
    states = narrower(old, new)
    if not states:
        return new
    whole = onnx.ModelProto()
    whole.CopyFrom(new)
    for value in (*whole.graph.input, *whole.graph.output):
        state = states.get(value.name)
        if state is not None:
            _declare_whole(value, state)
    return whole


def _declare_whole(value: onnx.ValueInfoProto, state: NarrowState) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, size, kept in state.cut_axes:
        if axis < len(dims) and dims[axis].dim_value == kept.shape[axis]:
            dims[axis].dim_value = size


def narrower_text(old: onnx.ModelProto, new: onnx.ModelProto) -> str:
    """Say which states are narrower, and how wide they are; nothing where none is."""
    return ", ".join(
        f"{name} ({' x '.join(f'{kept.shape[axis]} of {size}' for axis, size, kept in state.cut_axes)})"
        for name, state in narrower(old, new).items()
    )


def narrower_notes(old: onnx.ModelProto, new: onnx.ModelProto) -> tuple[str, ...]:
    """Say what a caller of the narrower model has to know."""
    text = narrower_text(old, new)
    if not text:
        return ()
    return (
        f"states in the interface are narrower: {text}; sequences start with states of these sizes, 0 unless the"
        f" original's start with others; {KEY!r} in the file's metadata says which units stay",
    )


@dataclass(frozen=True, eq=False)
class NarrowedFeeds(Mapping[str, Array]):
    """Inputs of which the original's states are narrowed when they are asked for."""

    feeds: Mapping[str, Array]
    states: Mapping[str, NarrowState]

    def __getitem__(self, name: str) -> Array:
        value, state = self.feeds[name], self.states.get(name)
        return value if state is None or not state.is_whole(value) else state.narrowed(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.feeds)

    def __len__(self) -> int:
        return len(self.feeds)


def narrowed_feeds(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return inputs as a model takes them; the same where it has no narrow states."""
    states = narrow_states(proto)
    return NarrowedFeeds(feeds, states) if states else feeds
