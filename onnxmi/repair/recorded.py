"""Rows of the original at each operator, recorded while it runs, so that other cuts need not run it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxmi.graph.linear import Linear
from onnxmi.runtime.live_tensors import MEMORY, LiveTensors
from onnxmi.typing import Array, Samples

DISK = 2**31  # bytes of recorded rows, most of which wait in temporary files
Key = tuple[str, str | None]
"""Linear.key, and the tensor that its results are added to."""


@dataclass(frozen=True, eq=False)
class OriginalRows:
    """What an operator of the original gives on the rows that are drawn of one batch.

    Attributes
    ----------
    part : int
        Of the samples; see `onnxmi.repair.samples.parts_of`.
    places : (rows,) int64
        See `onnxmi.graph.linear.feature_rows`.
    results : (groups, rows, M) array
        Without the bias.
    stream : (groups, rows, M) array or None
        What they are added to.
    shape : tuple of int
        Of all that, without the rows that the cut takes away; empty where there is nothing.
    """

    part: int
    places: Samples
    results: Array
    stream: Array | None = None
    shape: tuple[int, ...] = ()

    @staticmethod
    def none(part: int, linear: Linear) -> OriginalRows:
        """Of a batch that does not reach the operator."""
        results = np.zeros((linear.groups, 0, linear.outputs.size // linear.groups), np.float32)
        return OriginalRows(part, np.zeros(0, np.int64), results)


class RecordedRows:
    """Rows of all batches, in memory up to a limit and in temporary files beyond it.

    Parameters
    ----------
    disk : int
        Bytes from which on nothing more is recorded.
    """

    def __init__(self, disk: int = DISK) -> None:
        self._room = disk
        self._batches: dict[Key, list[tuple[int, tuple[int, ...]]]] = {}
        self._held = LiveTensors([{}], MEMORY)

    def rows(self, key: Key) -> Iterator[OriginalRows] | None:
        """Return the rows of each batch at an operator; None where they are not recorded."""
        return None if key not in self._batches else self._read(key)

    def recording(self, key: Key, rows: Iterator[OriginalRows]) -> Iterator[OriginalRows]:
        """Yield the rows of each batch, and record them."""
        batches: list[tuple[int, tuple[int, ...]]] = []
        for own in rows:
            arrays = {"places": own.places, "results": own.results, "stream": own.stream}
            for name, array in arrays.items():
                if array is not None and self._room > 0:
                    self._room -= array.nbytes
                    self._held.set(0, _name(key, len(batches), name), array)
            batches.append((own.part, own.shape))
            yield own
        if self._room > 0:
            self._batches[key] = batches

    def _read(self, key: Key) -> Iterator[OriginalRows]:
        tensors = self._held[0]
        for number, (part, shape) in enumerate(self._batches[key]):
            stream = None if key[1] is None else tensors[_name(key, number, "stream")]
            places, results = (tensors[_name(key, number, name)] for name in ("places", "results"))
            yield OriginalRows(part, places, results, stream, shape)


def _name(key: Key, batch: int, what: str) -> str:
    return f"{key[0]}\n{key[1]}\n{batch}\n{what}"
