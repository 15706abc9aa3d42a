"""The inner tensors of many batches that are still to be read, in memory up to a limit and in a file beyond it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from math import prod

import numpy as np
import onnx

from onnxmi.model.graph import Graph
from onnxmi.runtime.probe import run_types
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.spill import Spilled, SpillFile
from onnxmi.typing import Array

MEMORY = 16 * 2**20  # bytes of inner tensors that one model holds in memory: writing more costs a few percent of time


class LiveTensors(Sequence[Mapping[str, Array]]):
    """For every batch, a mapping of tensor name to array: the batch's inputs, and what was kept of inner tensors.

    Parameters
    ----------
    batches : sequence of mapping
        Inputs of each batch.
    memory : int
        Bytes of inner tensors held in memory; what exceeds them is written to a temporary file.

    Notes
    -----
    Tensors that onnxruntime has no plain array for, such as sequences, are always held in memory.
    """

    def __init__(self, batches: Sequence[Feeds], memory: int) -> None:
        self._file = _LateFile()
        self._batches = [_Batch(feeds, self._file) for feeds in batches]
        self._room = memory

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Mapping[str, Array]:  # type: ignore[override]  # no slices
        return self._batches[number]

    def keep(self, number: int, made: Mapping[str, Array], live: Collection[str]) -> None:
        """Add what a step made of a batch, and drop the inner tensors that are not live."""
        batch = self._batches[number]
        for name in [name for name in batch.inner if name not in live]:
            self._drop(batch.inner.pop(name))
        for name in made.keys() & live:
            self.set(number, name, made[name])

    def set(self, number: int, name: str, value: Array) -> None:
        """Hold an inner tensor of a batch, instead of one of this name that is held."""
        inner = self._batches[number].inner
        if name in inner:
            self._drop(inner.pop(name))
        size = _size(value)
        if size <= self._room:
            self._room -= size
            inner[name] = value
        else:
            inner[name] = self._file.opened.write(value)

    def _drop(self, held: Array | Spilled) -> None:
        if isinstance(held, Spilled):
            self._file.opened.drop(held)
        else:
            self._room += _size(held)


class _LateFile:
    """A file that is made when it is first needed: most models need none."""

    @cached_property
    def opened(self) -> SpillFile:
        return SpillFile()


class _Batch(Mapping[str, Array]):
    """The tensors of one batch; those that lie in the file are read when they are asked for."""

    def __init__(self, feeds: Feeds, file: _LateFile) -> None:
        self.feeds = feeds
        self.inner: dict[str, Array | Spilled] = {}
        self._file = file

    def __getitem__(self, name: str) -> Array:
        if name not in self.inner:
            return self.feeds[name]
        held = self.inner[name]
        return self._file.opened.read(held) if isinstance(held, Spilled) else held

    def __iter__(self) -> Iterator[str]:
        yield from self.inner
        yield from (name for name in self.feeds if name not in self.inner)

    def __len__(self) -> int:
        return len(self.inner.keys() | self.feeds.keys())


def _size(value: Array) -> int:
    """Bytes of a tensor; 0 where it is no plain array and cannot be written."""
    return value.nbytes if isinstance(value, np.ndarray) and value.dtype.kind != "O" else 0


def live_bytes(proto: onnx.ModelProto, feeds: Feeds) -> int:
    """Return the most bytes that inputs and unread results take when a model is run node by node.

    Inputs count to the end, though those of a batch can be read again: the sum is never too low.
    """
    sizes = {name: dtype.itemsize * prod(shape) for name, (dtype, shape) in run_types(proto, feeds).items()}
    graph = Graph(proto)
    last = {name: node.index for node in graph.nodes for name in (*node.inputs, *node.captures)}
    last |= {info.name: len(graph.nodes) for info in graph.outputs}
    held = peak = sum(value.nbytes for value in feeds.values())
    for node in graph.nodes:
        held += sum(sizes.get(name, 0) for name in node.outputs)
        peak = max(peak, held)
        ended = {*node.inputs, *node.captures, *node.outputs}
        held -= sum(sizes.get(name, 0) for name in ended if last.get(name, node.index) == node.index)
    return peak
