"""Statistics in shards as a Slurm array, by submitit (pip install submitit); finished shards are not measured again.

    python docs/cluster/slurm.py model.onnx samples shards --count 16 -o model.stats.npz

With --cluster local, the jobs are processes of this machine: to try the recipe out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import submitit

import onnxmi
from onnxmi.data.shards import Shard
from onnxmi.pruning.shards import capture_shard
from onnxmi.statistics.merging import merge_to


def measure(model: Path, samples: Path, folder: Path, index: int, count: int) -> str:
    """Measure one shard: what `onnxmi capture --shard` does."""
    target = folder / f"s_{index}.npz"
    capture_shard(onnxmi.load(model), samples, Shard(index, count), target, onnxmi.PruneOptions(threads=1))
    return str(target)


def main() -> None:
    """Read the command line, start an array, wait for it, and add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("folder", type=Path, help="for the shards; all machines have to see it")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--cluster", default="slurm", choices=["slurm", "local"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.AutoExecutor(folder=given.folder / "logs", cluster=given.cluster)
    executor.update_parameters(timeout_min=60, cpus_per_task=1, slurm_array_parallelism=256)
    model, samples, folder = (path.resolve() for path in (given.model, given.samples, given.folder))
    with executor.batch():
        jobs = [executor.submit(measure, model, samples, folder, index, given.count) for index in range(given.count)]
    merge_to([Path(job.result()) for job in jobs], given.output)


if __name__ == "__main__":
    main()
