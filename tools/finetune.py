"""Fine-tune a cut model without the code it came from, and write the weights back into the same file.

    onnxmi prune model.onnx calib.npz --keep 0.5 -o cut.onnx
    python tools/finetune.py cut.onnx train.npz -o tuned.onnx --steps 300 --rate 1e-3

The training file holds arrays named as the model's inputs, and `labels`, one class a sample. Needs torch. The recipe,
also for those who have the torch code, is docs/finetune.md.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx
import torch
from trials.datasets import Samples
from trials.training import Budget, train
from trials.twin import Twin, written_back

import onnxmi


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("samples", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--steps", type=int, default=300, show_default=True)
@click.option("--rate", type=float, default=3e-4, show_default=True, help="Learning rate.")
@click.option("--batch", type=int, default=32, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    model: Path, samples: Path, output: Path, steps: int, rate: float, batch: int, seed: int, threads: int
) -> None:
    """Train the weights of MODEL on SAMPLES with cross-entropy."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    proto = onnx.load(str(model))
    with np.load(samples, allow_pickle=False) as stored:
        names = [info.name for info in proto.graph.input]
        if missing := [name for name in (*names, "labels") if name not in stored]:
            raise click.UsageError(f"{samples} has no array {', '.join(missing)}")
        given = Samples(tuple(stored[name] for name in names), stored["labels"].astype(np.int64))
    twin = Twin(proto)
    train(twin, given, Budget(steps, rate, batch, seed))
    onnxmi.save(written_back(proto, twin), output)


if __name__ == "__main__":
    main()
