"""What a run measured, kept for the next one: an interrupted run, or one with another budget, goes on from there.

A folder holds the statistics and the damage curves of one model, one set of samples and one set of options. Budgets are
not among these options. What is read is what was written, bit for bit, so a run gives the same bytes with and without.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from onnxmi.axes.terms import AtomId
from onnxmi.budget.damage_curves import DamageCurve
from onnxmi.budget.goals import Budget
from onnxmi.data.calibration import Calibration
from onnxmi.data.splits import Split
from onnxmi.errors import DataError, StatisticsError
from onnxmi.graph.channel_graph import Layer, LayerId
from onnxmi.model import Model
from onnxmi.model.save import write_atomically
from onnxmi.pruning.options import PruneOptions
from onnxmi.runtime.cache_folder import CacheEntry, cache_entries, cache_folder, remove_entry
from onnxmi.runtime.session import version
from onnxmi.statistics.statistics_file import StatisticsFile, load_statistics, save_statistics
from onnxmi.typing import Floats, Ints
from onnxmi.version import __version__

FOLDER = "runs"
MOST_BYTES = 2 * 2**30  # of all runs together: the ones that were not used for longest are removed
LARGEST = 2**29  # bytes of statistics: larger ones are not kept
IRRELEVANT = {field.name for field in fields(Budget)} | {
    "batch",
    "best_effort",
    "few_samples",
    "force",
    "fresh",
    "quantize",
    "timings",
}
"""Options that what is measured does not depend on."""


@dataclass(frozen=True, eq=False)
class RunCache:
    """What earlier runs measured of the same model, samples and options.

    Attributes
    ----------
    folder : Path or None
        Where it is kept; None to keep and use nothing.
    used : list of str
        What was taken from an earlier run, so far.
    """

    folder: Path | None
    used: list[str] = field(default_factory=list)

    def statistics(self) -> StatisticsFile | None:
        """Return the statistics of an earlier run; None where there are none, or they cannot be read."""
        path = self._path("statistics.npz")
        if path is None or not path.exists():
            return None
        with suppress(StatisticsError):
            measured = load_statistics(path)
            self._use(path, "statistics")
            return measured
        return None

    def keep_statistics(self, measured: StatisticsFile) -> None:
        """Keep statistics; not those of a score's own, which the file has no place for."""
        path = self._path("statistics.npz")
        if path is not None and not measured.fit.measured and _bytes(measured) <= LARGEST:
            with suppress(OSError, DataError):  # a full disk costs the next run its time, no more
                path.parent.mkdir(parents=True, exist_ok=True)
                save_statistics(measured, path)

    def curves(self, sizes: Mapping[LayerId, Ints]) -> dict[LayerId, DamageCurve]:
        """Return the damage curves of an earlier run.

        Parameters
        ----------
        sizes : mapping
            Layer id -> the sizes that a curve has to be of.
        """
        path = self._path("damage.json")
        if path is None:
            return {}
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            kept = {LayerId(AtomId(int(layer))): _curve(*curve) for layer, curve in table.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
        usable = {
            layer: curve
            for layer, curve in kept.items()
            if layer in sizes and np.array_equal(curve.sizes, sizes[layer]) and curve.damage.shape == curve.sizes.shape
        }
        if usable:
            self._use(path, "damage")
        return usable

    def keep_curves(self, curves: Mapping[LayerId, DamageCurve]) -> None:
        """Keep damage curves, instead of those that were kept."""
        path = self._path("damage.json")
        if path is not None:
            table = {str(layer): [curve.sizes.tolist(), curve.damage.tolist()] for layer, curve in curves.items()}
            with suppress(OSError, DataError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(table).encode())

    @property
    def note(self) -> str | None:
        """What the user should know of it."""
        if not self.used:
            return None
        return f"{' and '.join(dict.fromkeys(self.used))} of an earlier run were used (--fresh measures them anew)"

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _use(self, path: Path, what: str) -> None:
        self.used.append(what)
        with suppress(OSError):
            os.utime(path)


def open_run_cache(
    model: Model, data: Calibration, split: Split, layers: Iterable[Layer], options: PruneOptions
) -> RunCache:
    """Return the cache of runs on the same model, as it is looked at, with the same samples and options."""
    if options.fresh:
        return RunCache(None)
    _make_room()
    return RunCache(cache_folder() / FOLDER / _key(model, data, split, layers, options))


def _key(model: Model, data: Calibration, split: Split, layers: Iterable[Layer], options: PruneOptions) -> str:
    relevant = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in IRRELEVANT}
    # Fewer positions and split tables are not in the model's digest, but in that of its nodes.
    names = [layer.name for layer in layers]
    described = [__version__, version(), model.digest, model.nodes_digest, names, sorted(relevant.items())]
    key = hashlib.sha256(json.dumps(described, default=str).encode())
    whole = [np.asarray(data.arrays[name]) for name in sorted(data.whole)]
    labels = [] if data.labels is None else [data.labels]
    for array in (data.fingerprints, split.fit, split.validation, split.search, split.test, *labels, *whole):
        key.update(repr((array.dtype.str, array.shape)).encode())
        key.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    return key.hexdigest()[:32]


def kept_runs() -> list[CacheEntry]:
    """Return the runs that are kept, the one that was used last first."""
    return cache_entries(cache_folder() / FOLDER)


def _make_room() -> None:
    """Remove the runs that were not used for longest, until the others are within the limit."""
    total = 0
    for entry in kept_runs():
        total += entry.size
        if total > MOST_BYTES:
            remove_entry(entry)


def _curve(sizes: list[int], damage: list[float]) -> DamageCurve:
    values: Floats = np.array(damage, dtype=np.float64)
    return DamageCurve(np.array(sizes, dtype=np.int64), values)


def _bytes(measured: StatisticsFile) -> int:
    sets = [one for one in (measured.fit, measured.validation) if one is not None]
    return sum(moments.scatter.nbytes for one in sets for moments in (*one.sources.values(), *one.scores.values()))
