"""Statistics as a file: measured once, used for many plans, and added up from several files or machines.

The file is an .npz archive of plain arrays: a JSON header, the fingerprints of the samples, and for each set of samples
the moments of every source, the attention scores' and the class means'. It is bound to one model by its digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.data.npz import read_archive, write_archive
from onnxmi.data.shards import Shard
from onnxmi.data.stored import SampleArray
from onnxmi.errors import StatisticsError
from onnxmi.information import ClassMeans, Moments, Sensitivity
from onnxmi.model.save import write_atomically
from onnxmi.statistics.statistics import Statistics
from onnxmi.typing import Array, Floats
from onnxmi.version import __version__

Arrays = Mapping[str, Array]

SCHEMA = 1
KIND = "a statistics file of onnxmi"
HEADER, PRINTS = "header", "samples"
_FIT, _VALIDATION = "fit", "judge"  # names of the sets in the file; the second is from before the glossary


@dataclass(frozen=True)
class ShardRecord:
    """What a shard's file is known by: the same again need not be measured, and another's is not added up with it.

    Attributes
    ----------
    shard : Shard
        Which part of which source.
    content : str
        SHA-256 of its samples.
    measured_by : mapping
        Versions and options that the sums depend on, beside those that a statistics file has in any case.
    """

    shard: Shard
    content: str
    measured_by: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header holds of it."""
        return {**vars(self.shard), "content": self.content, "measured_by": dict(self.measured_by)}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> ShardRecord:
        """Read it again."""
        shard = Shard(int(entry["index"]), int(entry["count"]), str(entry["source"]))
        return ShardRecord(shard, str(entry["content"]), dict(entry["measured_by"]))


@dataclass(frozen=True, eq=False)
class StatisticsFile:
    """Statistics of the fit samples and of the validation samples, of one model.

    Attributes
    ----------
    digest : str
        SHA-256 of the model.
    fit : Statistics
        Of the fit samples: units are selected and weights are fitted by them.
    validation : Statistics or None
        Of the validation samples; None where there were too few.
    options : mapping
        What the statistics depend on besides model and samples; those of merged ones agree.
    prints : (n,) uint64
        Fingerprints of all samples measured, sorted.
    random : bool
        Whether some of them are random numbers, for a first try.
    shard : ShardRecord or None
        Which part of a source was measured, where the others are files of their own.
    """

    digest: str
    fit: Statistics
    validation: Statistics | None
    options: Mapping[str, Any] = field(default_factory=dict)
    prints: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    random: bool = False
    shard: ShardRecord | None = None

    @property
    def samples(self) -> int:
        """Number of samples measured."""
        return self.fit.samples + (self.validation.samples if self.validation is not None else 0)

    @property
    def extent(self) -> str:
        """Say how much was measured."""
        fewest, most = self.fit.rows
        rows = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        return f"{self.samples:,} samples, {rows} rows for each layer"

    def require(self, digest: str, options: Mapping[str, Any]) -> None:
        """Raise StatisticsError unless measured on this model with these options, and of all shards."""
        if self.shard is not None:
            shard = self.shard.shard
            raise StatisticsError(f"has shard {shard} alone; add all {shard.count} up with `onnxmi merge`")
        self._require_alike(digest, options)

    def _require_alike(self, digest: str, options: Mapping[str, Any]) -> None:
        if self.digest != digest:
            raise StatisticsError(
                f"the statistics are of a model with digest {self.digest[:12]}, this one's is {digest[:12]}"
            )
        for name in sorted(self.options.keys() | options.keys()):
            if self.options.get(name) != options.get(name):
                raise StatisticsError(
                    f"the statistics were measured with {name} {self.options.get(name)}, not {options.get(name)}"
                )

    def merge(self, other: StatisticsFile) -> StatisticsFile:
        """Add up what was measured on other samples.

        Where every row was used, this is what one measurement of all samples gives, up to rounding, since a sample's
        set does not depend on the others. Where rows were drawn, each part brings the rows that it drew: together more
        than one measurement would draw, evenly from the parts and not from the samples.

        Raises
        ------
        StatisticsError
            If the models or the options differ, or the other has no sample of its own.
        """
        self._require_alike(other.digest, other.options)
        if other.prints.size and np.isin(other.prints, self.prints).all():
            raise StatisticsError("all its samples are already in the other file")
        validations = [one.validation for one in (self, other) if one.validation is not None]
        return StatisticsFile(
            self.digest,
            self.fit.merge(other.fit),
            validations[0].merge(validations[1]) if len(validations) == 2 else next(iter(validations), None),
            self.options,
            np.sort(np.concatenate([self.prints, other.prints])),
            random=self.random or other.random,
        )

    def write(self, stream: IO[bytes]) -> None:
        """Write the file's content, an array after the other: the same measurement gives the same bytes."""
        sets = {_FIT: self.fit} | ({_VALIDATION: self.validation} if self.validation is not None else {})
        header = {
            "schema": SCHEMA,
            "onnxmi": __version__,
            "model": {"sha256": self.digest},
            "options": dict(self.options),
            **({"random": True} if self.random else {}),
            **({} if self.shard is None else {"shard": self.shard.to_json()}),
            "keys": dict(self.fit.keys),
            "sets": {name: _set_header(statistics) for name, statistics in sets.items()},
        }
        named = ((f"{name}/{place}", one) for name, statistics in sets.items() for place, one in _arrays(statistics))
        write_arrays(stream, header, self.prints, named)


def write_arrays(
    stream: IO[bytes], header: Mapping[str, Any], prints: NDArray[np.uint64], arrays: Iterable[tuple[str, SampleArray]]
) -> None:
    """Write a statistics file from its header, the fingerprints of its samples, and its other arrays by name."""
    text = json.dumps(header, ensure_ascii=False).encode()
    first: list[tuple[str, SampleArray]] = [(HEADER, np.frombuffer(text, dtype=np.uint8)), (PRINTS, prints)]
    write_archive(stream, chain(first, arrays))


def _set_header(statistics: Statistics) -> dict[str, Any]:
    return {
        "samples": statistics.samples,
        "sources": {key: moments.count for key, moments in statistics.sources.items()},
        "scores": {key: moments.count for key, moments in statistics.scores.items()},
        "classes": list(statistics.classes),
        "sensitivities": {key: sensitivity.count for key, sensitivity in statistics.sensitivities.items()},
        **({} if statistics.went_back else {"went_back": False}),
    }


def _arrays(statistics: Statistics) -> Iterator[tuple[str, Array]]:
    for kind, by_key in (("sources", statistics.sources), ("scores", statistics.scores)):
        for number, moments in enumerate(by_key.values()):
            yield f"{kind}/{number}/mean", moments.mean
            yield f"{kind}/{number}/scatter", moments.scatter
    for number, classes in enumerate(statistics.classes.values()):
        yield f"classes/{number}/count", classes.count
        yield f"classes/{number}/sums", classes.sums
    for number, sensitivity in enumerate(statistics.sensitivities.values()):
        yield f"sensitivities/{number}/total", sensitivity.total


def save_statistics(measurement: StatisticsFile, path: Path) -> int:
    """Write a statistics file atomically and return its size in bytes; nothing of it is held in memory twice."""
    write_atomically(path, measurement.write)
    return path.stat().st_size


def load_statistics(path: str | os.PathLike[str]) -> StatisticsFile:
    """Read a statistics file; its arrays stay in it, and are mapped into memory where they are used.

    Raises
    ------
    StatisticsError
        One line saying what is wrong with it.
    """
    path = Path(path)
    arrays = read_archive(path, StatisticsError, KIND, mapped=True)
    with readable(path):
        return _parse(arrays)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of a file whose content cannot be understood which it is."""
    try:
        yield
    except StatisticsError as error:
        raise StatisticsError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a header that is not ours leads to
        raise StatisticsError(f"{path}: is not {KIND}") from error


def parse_header(text: Array) -> dict[str, Any]:
    """Read the header of a statistics file.

    Raises
    ------
    StatisticsError
        If another version wrote it.
    """
    header = json.loads(text.tobytes())
    if header["schema"] != SCHEMA:
        raise StatisticsError(f"has schema {header['schema']!r}; this version reads {SCHEMA}")
    return dict(header)


def _parse(arrays: Arrays) -> StatisticsFile:
    header = parse_header(arrays[HEADER])
    keys = {str(key): str(source) for key, source in header["keys"].items()}
    sets = {
        name: _parse_set(name, entry, keys, arrays)
        for name, entry in header["sets"].items()
        if name in (_FIT, _VALIDATION)
    }
    prints = np.asarray(arrays[PRINTS], dtype=np.uint64)
    return StatisticsFile(
        str(header["model"]["sha256"]),
        sets[_FIT],
        sets.get(_VALIDATION),
        dict(header["options"]),
        prints,
        random=bool(header.get("random", False)),
        shard=ShardRecord.from_json(header["shard"]) if "shard" in header else None,
    )


def _parse_set(name: str, entry: Mapping[str, Any], keys: Mapping[str, str], arrays: Arrays) -> Statistics:
    moments: dict[str, dict[str, Moments]] = {}
    for kind in ("sources", "scores"):
        moments[kind] = {
            key: Moments(
                int(count),
                _floats(arrays, f"{name}/{kind}/{number}/mean"),
                _floats(arrays, f"{name}/{kind}/{number}/scatter"),
            )
            for number, (key, count) in enumerate(entry[kind].items())
        }
    classes = {
        key: ClassMeans(
            _floats(arrays, f"{name}/classes/{number}/count"), _floats(arrays, f"{name}/classes/{number}/sums")
        )
        for number, key in enumerate(entry["classes"])
    }
    if not set(keys.values()) <= moments["sources"].keys():
        raise StatisticsError("lacks the moments of some operators")
    sensitivities = {
        key: Sensitivity(int(count), _floats(arrays, f"{name}/sensitivities/{number}/total"))
        for number, (key, count) in enumerate(entry.get("sensitivities", {}).items())
    }
    return Statistics(
        moments["sources"],
        keys,
        int(entry["samples"]),
        moments["scores"],
        classes,
        sensitivities=sensitivities,
        went_back=bool(entry.get("went_back", True)),
    )


def _floats(arrays: Arrays, name: str) -> Floats:
    array = arrays[name]
    if array.dtype != np.float64 or not np.isfinite(array).all():
        raise StatisticsError(f"has values at {name!r} that are not finite numbers")
    return array
