"""Does pruning by mutual information keep what it claims? Every method side by side, at equal sparsity.

    python tools/claims.py free DIR     without training: zeroing and cutting, each score, with and without repair
                                        (the last row needs torch)
    python tools/claims.py speed DIR    how fast zeroed and cut models are
    python tools/claims.py tuned DIR    with the same short fine-tuning for all (needs torch)
    python tools/claims.py ablations DIR
    python tools/claims.py tables       Markdown and a plot of what was found

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. Results are rows of JSON in --results, one file a command: a run
that was stopped goes on, and rows that are there are not made again. --jobs N or --dask ADDRESS makes them by workers;
speed is measured at home. Workers on other machines need tools/ in PYTHONPATH.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # before numpy is loaded: one core, so that times compare

import click  # noqa: E402
from trials.cases import Case  # noqa: E402
from trials.parts import make_rows, split, worker_options  # noqa: E402
from trials.records import Records  # noqa: E402

SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9)
MODELS = ("fashion-cnn", "fashion-resnet", "sst2-minilm")

folder = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
only = click.option("--only", multiple=True, default=MODELS, metavar="NAME", help="Repeatable.")
sparsities = click.option("--sparsity", type=float, multiple=True, default=SPARSITIES, help="Repeatable.")
seeds = click.option("--seed", type=int, multiple=True, default=(0, 1, 2), help="Repeatable.")
samples = click.option("--samples", type=int, help="Evaluation samples [default: all].")


@click.group()
@click.option("--results", type=click.Path(path_type=Path), default=Path("claims"), show_default=True)
@click.pass_context
def main(context: click.Context, results: Path) -> None:
    """Show the claims, or where they do not hold."""
    context.obj = results


@main.command()
@folder
@only
@sparsities
@seeds
@samples
@click.option("--method", multiple=True, metavar="NAME", help="Repeatable [default: all].")
@worker_options
@click.pass_obj
def free(
    results: Path,
    folder: Path,
    only: tuple[str, ...],
    sparsity: tuple[float, ...],
    seed: tuple[int, ...],
    samples: int | None,
    method: tuple[str, ...],
    jobs: int | None,
    dask: str | None,
) -> None:
    """Compare without any training."""
    from trials.free import make_free

    # One measurement a seed serves all sparsities.
    apart = split(seed, by=jobs or dask)
    parts = [(folder.resolve(), name, samples, sparsity, own, method) for name in only for own in apart]
    make_rows(results / "free.jsonl", make_free, parts, jobs, dask)


@main.command()
@folder
@only
@sparsities
@click.pass_obj
def speed(results: Path, folder: Path, only: tuple[str, ...], sparsity: tuple[float, ...]) -> None:
    """Measure how fast zeroed and cut models are, side by side."""
    from trials.speed import Speed

    records = Records(results / "speed.jsonl")
    for name in only:
        Speed(Case(folder, name), records).run(sparsity)


@main.command()
@folder
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@only
@sparsities
@seeds
@samples
@click.option("--method", multiple=True, metavar="NAME", help="Repeatable [default: all].")
@click.option("--steps", type=int, help="Of 32 samples [default: 300].")
@click.option("--rate", type=float, multiple=True, help="Try these and no others; repeatable [default: search].")
@worker_options
@click.pass_obj
def tuned(
    results: Path,
    folder: Path,
    data: Path,
    only: tuple[str, ...],
    sparsity: tuple[float, ...],
    seed: tuple[int, ...],
    samples: int | None,
    method: tuple[str, ...],
    steps: int | None,
    rate: tuple[float, ...],
    jobs: int | None,
    dask: str | None,
) -> None:
    """Compare with the same short fine-tuning for every method."""
    from trials.tuned import METHODS, make_tuned

    # The rate is searched for with the first seed, and taken with the others.
    settings = product(only, split(sparsity, by=jobs or dask), split(method or tuple(METHODS), by=jobs or dask))
    parts = [(folder.resolve(), name, samples, data.resolve(), steps, rate, seed, *own) for name, *own in settings]
    make_rows(results / "tuned.jsonl", make_tuned, parts, jobs, dask)


@main.command()
@folder
@only
@click.option("--sparsity", type=float, default=0.8, show_default=True)
@seeds
@samples
@click.option("--part", multiple=True, metavar="NAME", help="Repeatable [default: all but width and more samples].")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="For more samples.")
@worker_options
@click.pass_obj
def ablations(
    results: Path,
    folder: Path,
    only: tuple[str, ...],
    sparsity: float,
    seed: tuple[int, ...],
    samples: int | None,
    part: tuple[str, ...],
    data: Path | None,
    jobs: int | None,
    dask: str | None,
) -> None:
    """Change one thing of the method at a time."""
    from trials.ablations import QUICK, make_ablations

    where = None if data is None else data.resolve()
    apart = split(seed, by=jobs or dask)
    parts = [(folder.resolve(), name, samples, sparsity, where, own, part or QUICK) for name in only for own in apart]
    make_rows(results / "ablations.jsonl", make_ablations, parts, jobs, dask)


@main.command()
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Also draw accuracy by sparsity and by speed-up, as SVG or PNG."
)
@click.pass_obj
def tables(results: Path, plot: Path | None) -> None:
    """Print what was found as Markdown."""
    from trials import tables as shown

    found = {name: list(Records(results / f"{name}.jsonl")) for name in ("free", "tuned", "rivals", "ablations")}
    speeds = shown.by_kind(Records(results / "speed.jsonl"))
    makers = {
        "free": lambda rows: shown.free_tables(rows, speeds),
        "tuned": lambda rows: shown.tuned_tables(rows, speeds),
        "rivals": shown.rival_tables,
        "ablations": shown.ablation_tables,
    }
    for name, maker in makers.items():
        click.echo(f"## {name}\n")
        click.echo("\n".join(maker(found[name])))
    if plot is not None:
        shown.plot(found["free"], speeds, plot)


if __name__ == "__main__":
    main()
