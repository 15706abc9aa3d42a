"""Statistics files to be added up: opened, held against each other, and put into the order that fixes the sum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.npz import locate_archive
from onnxmi.data.stored import SampleArray
from onnxmi.errors import StatisticsError
from onnxmi.statistics.statistics_file import HEADER, KIND, PRINTS, ShardRecord, parse_header, readable

SHOWN = 8  # shards that a message names


@dataclass(frozen=True, eq=False)
class StatisticsPart:
    """A statistics file whose arrays stay in it.

    Attributes
    ----------
    path : Path
        The file.
    header : mapping
        What it says of itself.
    arrays : mapping of str to array
        What it holds.
    """

    path: Path
    header: Mapping[str, Any]
    arrays: Mapping[str, SampleArray]

    @property
    def prints(self) -> NDArray[np.uint64]:
        """Fingerprints of its samples."""
        return np.asarray(self.arrays[PRINTS], dtype=np.uint64)

    @property
    def record(self) -> ShardRecord | None:
        """Which shard it is; None for a file that stands by itself."""
        entry = self.header.get("shard")
        return None if entry is None else ShardRecord.from_json(entry)


def open_part(path: Path, *, checked: bool = True) -> StatisticsPart:
    """Open a file; nothing of it is held.

    Parameters
    ----------
    checked : bool
        Whether to read it once and compare all checksums.

    Raises
    ------
    StatisticsError
        If it is damaged, or no statistics file.
    """
    arrays = locate_archive(path, StatisticsError, KIND, checked=checked)
    with readable(path):
        part = StatisticsPart(path, parse_header(np.asarray(arrays[HEADER])), arrays)
        _ = part.record, [part.header[key] for key in ("model", "options", "keys", "sets")]
        return part


def in_order(parts: Sequence[StatisticsPart]) -> list[StatisticsPart]:
    """Return the parts in the one order that they are added up in, however they were named.

    Raises
    ------
    StatisticsError
        If they are of several models or options, a shard is missing or there twice, or a file brings no new samples.
    """
    first = parts[0]
    for part in parts[1:]:
        _require_alike(first, part)
    if first.record is None:
        return _apart(parts)
    return _all_shards(parts)


def _require_alike(first: StatisticsPart, part: StatisticsPart) -> None:
    """Refuse what was not measured in the same way."""
    own, other = _comparable(first), _comparable(part)
    for name in own.keys() | other.keys():
        if own.get(name) != other.get(name):
            was, now = (str(one.get(name, "nothing"))[:24] for one in (own, other))
            raise StatisticsError(f"{part.path}, beside {first.path}: {_DIFFERS.get(name, name)} {now}, not {was}")
    if first.header["keys"] != part.header["keys"]:
        raise StatisticsError(f"{part.path}, beside {first.path}: the statistics are of different operators")


_DIFFERS = {
    "model": "the statistics are of a model with digest",
    "shards": "is a part of shards:",
    "source": "is a shard of another source, or of one that has changed since: digest",
}
"""How a difference is told; of an option, that it was `measured with` it."""


def _comparable(part: StatisticsPart) -> dict[str, Any]:
    """What has to be the same in all files."""
    record, header = part.record, part.header
    named = {f"measured with {name}": value for name, value in header["options"].items()}
    if record is not None:
        named |= {f"measured with {name}": value for name, value in record.measured_by.items()}
        named |= {"shards": record.shard.count, "source": record.shard.source}
    return {"model": header["model"]["sha256"], **named}


def _all_shards(parts: Sequence[StatisticsPart]) -> list[StatisticsPart]:
    by_index: dict[int, StatisticsPart] = {}
    for part in parts:
        assert part.record is not None
        index = part.record.shard.index
        if index in by_index:
            raise StatisticsError(f"{part.path}, beside {by_index[index].path}: both are shard {part.record.shard}")
        by_index[index] = part
    assert parts[0].record is not None
    count = parts[0].record.shard.count
    missing = [index for index in range(count) if index not in by_index]
    if missing:
        named = ", ".join(map(str, missing[:SHOWN])) + (" and others" if len(missing) > SHOWN else "")
        raise StatisticsError(f"{len(missing):,} of {count:,} shards are missing: {named}")
    return [by_index[index] for index in range(count)]


def _apart(parts: Sequence[StatisticsPart]) -> list[StatisticsPart]:
    """Order files that stand by themselves by their samples."""
    known = np.zeros(0, dtype=np.uint64)
    for part in parts:
        prints = part.prints
        if prints.size and np.isin(prints, known).all():
            raise StatisticsError(f"{part.path}, beside {parts[0].path}: all its samples are already in the other file")
        known = np.union1d(known, prints)
    return sorted(parts, key=lambda part: hashlib.sha256(part.prints.tobytes()).digest())
