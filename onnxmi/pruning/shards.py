"""One shard of the samples, measured into a file: by a job of its own, which may be started again at any time."""

from __future__ import annotations

from pathlib import Path

from onnxmi.data.shards import Shard
from onnxmi.data.sources import CalibrationLike, as_calibration
from onnxmi.data.splits import LotLimits
from onnxmi.errors import StatisticsError
from onnxmi.model import Model
from onnxmi.pruning.collect import BY_DEFAULT, collect_from, measured_with, shard_record
from onnxmi.pruning.options import PruneOptions
from onnxmi.statistics.statistics_file import ShardRecord, load_statistics, save_statistics
from onnxmi.typing import Progress, silent


def capture_shard(
    model: Model,
    samples: CalibrationLike,
    shard: Shard,
    target: Path,
    options: PruneOptions,
    progress: Progress = silent,
    limits: LotLimits = BY_DEFAULT,
) -> bool:
    """Measure a shard into a file, unless the file has it already.

    Parameters
    ----------
    model : Model
        The model.
    samples : path or SampleSource
        The whole source, of which the shard alone is read where the format allows it.
    shard : Shard
        Which part.
    target : Path
        The file; whatever else it holds is replaced.
    limits : LotLimits
        How the samples are split.

    Returns
    -------
    bool
        Whether anything was measured.
    """
    options.check()
    data = as_calibration(samples, model, shard=shard)
    if target.exists() and _has(target, model, shard_record(data, options, limits), options):
        return False
    save_statistics(collect_from(model, data, options, progress, limits), target)
    return True


def _has(path: Path, model: Model, record: ShardRecord, options: PruneOptions) -> bool:
    """Whether a file has just what would be measured; a damaged one has nothing."""
    try:
        measured = load_statistics(path)
    except StatisticsError:
        return False
    same = measured.digest == model.digest and measured.options == measured_with(options)
    return same and measured.shard == record
