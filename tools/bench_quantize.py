"""8-bit files side by side: pruned or not, by onnxruntime, by hand, by `--quantize`, and by other tools' recipes.

    python tools/bench_quantize.py DIR --files FILES                  the table of docs/benchmarks.md
    python tools/bench_quantize.py DIR --files FILES --python OTHER   with rows of optimum-onnx and olive-ai

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. FILES keeps what is made, as NAME.ROW.onnx: a second run only
measures. OTHER is an interpreter that has optimum-onnx and olive-ai. All files of a model are timed in turn, in one
process, on one thread and by its own time. Accuracy, agreement and damage are those of the evaluation file, which
nothing is chosen on.
"""

from __future__ import annotations

import os
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import click  # noqa: E402
from trials.cases import Case  # noqa: E402
from trials.int8_rows import ROWS, Maker, made_rows  # noqa: E402
from trials.int8_table import measured, rule, shown  # noqa: E402

file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--files", type=click.Path(file_okay=False, path_type=Path), required=True, help="What is made.")
@click.option("--python", "python", type=file, help="Interpreter that has the other tools.")
@click.option("--only", multiple=True, default=tuple(ROWS), metavar="NAME", help="Models.")
@click.option("--samples", type=int, default=2000, show_default=True, help="Evaluation samples, at most.")
@click.option("--make/--no-make", "makes", default=True, help="Make the files that are missing, or leave them out.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Of timing, for each batch size.")
def main(
    folder: Path, files: Path, python: Path | None, only: tuple[str, ...], samples: int, seconds: float, *, makes: bool
) -> None:
    """Make the files that are missing, measure all, and print a table for each model."""
    files.mkdir(parents=True, exist_ok=True)
    for name in only:
        case = Case(folder, name, samples)
        rows = list(made_rows(Maker(case, files, python, makes)))
        batches = ROWS[name].batches
        print(f"\n{name}\n\n{rule(batches)}")
        for one in measured(case, rows, batches, seconds):
            print(shown(one))


if __name__ == "__main__":
    main()
