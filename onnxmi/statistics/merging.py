"""Adding up statistics files: a block of one matrix at a time, in an order that the files' content alone decides.

No file is held. Of one block, a sum for each level of the tree is: of a thousand files, eleven of `BLOCK` bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from onnxmi.data.stored import BLOCK, LazyArray, LocatedArray, SampleArray
from onnxmi.errors import StatisticsError
from onnxmi.information import ClassMeans
from onnxmi.information.fixed_tree import add_in_tree
from onnxmi.information.moment_rows import MomentRows
from onnxmi.model.save import write_atomically
from onnxmi.statistics.parts import StatisticsPart, in_order, open_part
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, write_arrays
from onnxmi.typing import Array, Floats, Samples, Shape


@dataclass(frozen=True)
class Block:
    """Some rows of one array of the sum.

    Attributes
    ----------
    samples : str
        Name of the set of samples.
    kind : str
        What it is of: sources, scores, classes or sensitivities.
    key : str
        Of which of these.
    array : str
        Name of the array.
    start, stop : int
        Rows of it, along its last axis; 0 and 0 for all of it.
    """

    samples: str
    kind: str
    key: str
    array: str
    start: int = 0
    stop: int = 0


Compute = Callable[[Block], Array]
"""Adds up one block."""


def merge_files(paths: Sequence[Path]) -> StatisticsFile:
    """Add up statistics files; the sum is in a temporary file, which is mapped into memory where it is used."""
    with tempfile.TemporaryDirectory(prefix="onnxmi-") as folder:
        merge_to(paths, Path(folder) / "sum.npz")
        return load_statistics(Path(folder) / "sum.npz")  # its pages stay readable when the name is gone


def merge_to(paths: Sequence[Path], target: Path) -> None:
    """Add up statistics files into one: all shards of a source, or files that stand by themselves.

    Parameters
    ----------
    paths : sequence of Path
        In any order.
    target : Path
        Where to write; it may be one of them.

    Raises
    ------
    StatisticsError
        Naming a file that is damaged, does not belong to the others, is there twice, or is missing.
    """
    total = Sum(in_order([open_part(path) for path in paths]))
    write_sum(total, target, total.block)


def write_sum(total: Sum, target: Path, compute: Compute) -> None:
    """Write a sum whose blocks are added up by a function."""
    write_atomically(target, partial(_write, total, compute))


@dataclass(frozen=True, eq=False)
class Sum:
    """What several files add up to, found block by block.

    Attributes
    ----------
    parts : sequence of StatisticsPart
        In order.
    """

    parts: Sequence[StatisticsPart]

    def samples(self, name: str) -> list[StatisticsPart]:
        """Return the files that have samples in a set."""
        return [part for part in self.parts if part.header["sets"].get(name, {}).get("samples", 0)]

    @property
    def sets(self) -> list[str]:
        """The sets of samples; that of the fit samples in any case."""
        first = self.parts[0].header["sets"]
        names = dict.fromkeys(name for part in self.parts for name in part.header["sets"])
        return [name for name in names if self.samples(name) or name == next(iter(first))]

    def members(self, name: str, kind: str) -> list[StatisticsPart]:
        """Return the files that tell something of a kind: without samples there is nothing to tell."""
        with_samples = self.samples(name) or list(self.parts[:1])
        if kind == "sensitivities":
            with_samples = [part for part in with_samples if part.header["sets"][name].get("went_back", True)]
        return with_samples

    def keys(self, name: str, kind: str) -> list[str]:
        """Return what all of these files have."""
        members = self.members(name, kind)
        in_each = [list(part.header["sets"][name].get(kind, ())) for part in members]
        if kind in ("sources", "scores") and any(keys != in_each[0] for keys in in_each):
            odd = next(part for part, keys in zip(members, in_each, strict=True) if keys != in_each[0])
            raise StatisticsError(f"{odd.path}, beside {members[0].path}: the statistics are of different operators")
        return [key for key in next(iter(in_each), []) if all(key in keys for keys in in_each)]

    def header(self) -> dict[str, Any]:
        """Return the sum's header."""
        own = {name: value for name, value in self.parts[0].header.items() if name not in ("shard", "sets", "random")}
        keys = own.pop("keys")
        random = {"random": True} if any(part.header.get("random") for part in self.parts) else {}
        return {**own, **random, "keys": keys, "sets": {name: self._set_header(name) for name in self.sets}}

    def _set_header(self, name: str) -> dict[str, Any]:
        def counted(kind: str) -> dict[str, int]:
            entries = [part.header["sets"][name][kind] for part in self.members(name, kind)]
            return {key: sum(int(entry[key]) for entry in entries) for key in self.keys(name, kind)}

        return {
            "samples": sum(int(part.header["sets"][name]["samples"]) for part in self.samples(name)),
            "sources": counted("sources"),
            "scores": counted("scores"),
            "classes": self.keys(name, "classes"),
            "sensitivities": counted("sensitivities"),
        }

    def arrays(self) -> Iterator[tuple[str, str, list[Block], Shape]]:
        """Yield each array of the sum: its set, its name there, its blocks, and its shape."""
        for name in self.sets:
            for kind, arrays in _ARRAYS.items():
                for number, key in enumerate(self.keys(name, kind)):
                    for array, is_matrix in arrays.items():
                        whole = Block(name, kind, key, array)
                        shape = self._shape(whole)
                        yield name, f"{kind}/{number}/{array}", list(_cut(whole, shape, is_matrix=is_matrix)), shape

    def _shape(self, block: Block) -> Shape:
        shapes = [self._array(part, block).shape for part in self.members(block.samples, block.kind)]
        if block.kind == "classes":  # a file may have seen fewer classes
            shapes = [max(shapes)] if len({shape[1:] for shape in shapes}) == 1 else shapes
        if len(set(shapes)) > 1:
            odd = next(p for p in self.members(block.samples, block.kind) if self._array(p, block).shape != shapes[0])
            raise StatisticsError(f"{odd.path}: the statistics do not fit together: {block.key} has another shape")
        return shapes[0]

    def _array(self, part: StatisticsPart, block: Block) -> SampleArray:
        # A file numbers what it has in its own order.
        number = list(part.header["sets"][block.samples][block.kind]).index(block.key)
        return part.arrays[f"{block.samples}/{block.kind}/{number}/{block.array}"]

    def block_shape(self, block: Block) -> Shape:
        """Return the shape of a block."""
        shape = self._shape(replace(block, start=0, stop=0))
        return shape if block.stop == 0 else (block.stop - block.start, shape[-1])

    def block(self, block: Block) -> Array:
        """Add up one block."""
        members = self.members(block.samples, block.kind)
        return _ADDED[block.kind](self, members, block)

    def read(self, part: StatisticsPart, block: Block) -> Floats:
        """Read one file's term of a block."""
        array = self._array(part, block)
        rows = array if block.stop == 0 else _rows(array)[block.start : block.stop]
        values = np.asarray(rows)
        if values.dtype != np.float64 or not np.isfinite(values).all():
            raise StatisticsError(f"{part.path}: has values at {block.key!r} that are not finite numbers")
        return values


_ARRAYS: Mapping[str, Mapping[str, bool]] = {
    "sources": {"mean": False, "scatter": True},
    "scores": {"mean": False, "scatter": True},
    "classes": {"count": False, "sums": False},
    "sensitivities": {"total": True},
}
"""Kind -> its arrays, and whether each is so large that it is added up in blocks of rows."""


def _moments(total: Sum, members: Sequence[StatisticsPart], block: Block) -> Array:
    mean = replace(block, array="mean", start=0, stop=0)

    def terms() -> Iterator[MomentRows]:
        for part in members:
            means = total.read(part, mean)
            scatter = total.read(part, block) if block.array == "scatter" else np.zeros((0, means.shape[-1]))
            count = int(part.header["sets"][block.samples][block.kind][block.key])
            yield MomentRows(count, means.reshape(-1, means.shape[-1]), scatter, block.start)

    added = add_in_tree(terms(), MomentRows.merge)
    return added.scatter if block.array == "scatter" else added.mean


def _class_means(total: Sum, members: Sequence[StatisticsPart], block: Block) -> Array:
    pair = [replace(block, array=array) for array in ("count", "sums")]
    terms = (ClassMeans(total.read(part, pair[0]), total.read(part, pair[1])) for part in members)
    added = add_in_tree(terms, ClassMeans.merge)
    return added.count if block.array == "count" else added.sums


def _sums(total: Sum, members: Sequence[StatisticsPart], block: Block) -> Array:
    return add_in_tree((total.read(part, block) for part in members), np.add)


_ADDED: Mapping[str, Callable[[Sum, Sequence[StatisticsPart], Block], Array]] = {
    "sources": _moments,
    "scores": _moments,
    "classes": _class_means,
    "sensitivities": _sums,
}


def open_unchecked(paths: Sequence[Path]) -> Sum:
    """Open files whose checksums others compare, and put them in order."""
    return Sum(in_order([open_part(path, checked=False) for path in paths]))


def check_part(path: Path) -> None:
    """Read a file through and compare its checksums."""
    open_part(path)


@lru_cache(maxsize=1)
def reopened(paths: tuple[str, ...]) -> Sum:
    """Open files in another process, in the order that they are in, without reading them through once more."""
    return Sum([open_part(Path(path), checked=False) for path in paths])


class _BlockwiseArray(LazyArray):
    """An array that is written block by block."""

    def __init__(self, blocks: Sequence[Block], shape: Shape, compute: Compute) -> None:
        self._blocks, self._compute = blocks, compute
        self.shape, self.dtype = shape, np.dtype(np.float64)

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read some entries: of all that there is."""
        whole = np.concatenate([np.asarray(block).reshape(-1) for block in self.blocks()]).reshape(self.shape)
        return np.take(whole, samples, axis)

    def blocks(self) -> Iterator[Array]:
        """Yield the blocks, in order."""
        yield from map(self._compute, self._blocks)


def _write(total: Sum, compute: Compute, stream: IO[bytes]) -> None:
    prints = np.sort(np.concatenate([part.prints for part in total.parts]))
    arrays = (
        (f"{name}/{place}", _BlockwiseArray(blocks, shape, compute)) for name, place, blocks, shape in total.arrays()
    )
    write_arrays(stream, total.header(), prints, arrays)


def _cut(whole: Block, shape: Shape, *, is_matrix: bool) -> Iterator[Block]:
    """Cut an array into blocks of rows."""
    rows, size = prod(shape[:-1]), 8 * prod(shape)
    if not is_matrix or size <= BLOCK:
        yield replace(whole, stop=rows) if is_matrix else whole
        return
    step = max(1, BLOCK * rows // size)
    for start in range(0, rows, step):
        yield replace(whole, start=start, stop=min(start + step, rows))


def _rows(array: SampleArray) -> SampleArray:
    """Return an array's numbers as rows along its last axis."""
    return array.rows() if isinstance(array, LocatedArray) else np.asarray(array).reshape(-1, array.shape[-1])
