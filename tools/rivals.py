"""onnxmi against other tools that cut channels, at the same number of parameters left.

    python -m venv rivals
    rivals/bin/pip install onnxsim==0.8.1 torch-pruning==1.6.1 torch onnx onnxruntime onnxscript
    python tools/rivals.py DIR --python rivals/bin/python

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. The rivals run in an environment of their own; all results are
judged by the same code. Torch-Pruning needs torch modules: it gets a twin of the file (tools/trials/twin.py), with
convolutions and linear layers as modules.
"""

from __future__ import annotations

import os
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import click  # noqa: E402
from trials.cases import Case  # noqa: E402
from trials.contest import Contest  # noqa: E402
from trials.records import Records  # noqa: E402

file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--python", "python", type=file, required=True, help="Interpreter that has the rivals.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("claims"), show_default=True)
@click.option("--only", multiple=True, default=("digits-mlp", "fashion-cnn", "fashion-resnet"), metavar="NAME")
@click.option("--share", type=float, multiple=True, default=(0.5, 0.25), show_default=True, help="Of the parameters.")
@click.option("--samples", type=int, help="Evaluation samples [default: all].")
def main(
    folder: Path, python: Path, results: Path, only: tuple[str, ...], share: tuple[float, ...], samples: int | None
) -> None:
    """Cut with every tool and judge the results."""
    records = Records(results / "rivals.jsonl")
    for name in only:
        Contest(Case(folder, name, samples), records, python).run(share)


if __name__ == "__main__":
    main()
