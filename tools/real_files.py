"""Trained files that people ship: fetch them, make inputs, prune them, and judge the result with onnxruntime alone.

    python tools/real_files.py fetch --to DIR
    python tools/real_files.py calibrate angle --in DIR
    python tools/real_files.py run angle --in DIR --arm default --arm speedup2 --onnxmi .venv/bin/onnxmi --label new
    python tools/real_files.py judge angle DIR/angle.onnx PRUNED.onnx --in DIR
    python tools/real_files.py table --in DIR

`calibrate` makes NAME.calib.npz, which the pruning sees, and NAME.fresh.npz, which only the judging sees; both follow
from a seed (and, for types of files and Chinese text, from what is installed). The inputs are made from

- Debian's packages fonts-dejavu, fonts-freefont-ttf, fonts-liberation and fonts-noto-cjk (lines and pages of text),
  the Chinese messages of coreutils, git and others, and espeak-ng (speech);
- Python's packages pillow, scikit-image, scikit-learn and matplotlib (drawing, and photographs).

No file of these packages, and no model, belongs in this repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from shipped import files, pruning, store, tables
from shipped.family import PARTS, Figures, Request
from shipped.lettering import MissingSourceError
from shipped.running import Loaded, latency

NAME = click.argument("name", type=click.Choice(list(files.FILES)))
RESULTS = "results.jsonl"


def place(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option(
        "--in", "folder", type=click.Path(path_type=Path), default=Path(), help="Where the files are."
    )
    return option(command)


@click.group(help=__doc__.split("\n\n")[0] if __doc__ else None)
def main() -> None:
    pass


@main.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Where to put NAME.onnx.")
def fetch(folder: Path) -> None:
    """Download the packages and take the models out of them."""
    for path in files.fetch(folder):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB")


@main.command()
@NAME
@place
@click.option("--seed", default=0)
def calibrate(name: str, folder: Path, seed: int) -> None:
    """Make NAME.calib.npz and NAME.fresh.npz."""
    family, model = files.FILES[name].family, folder / f"{name}.onnx"
    before, after = (Request(model, part, seed) for part in PARTS)
    try:
        arrays, groups = family.calibrate(before), family.fresh(after)
    except (MissingSourceError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    store.write_calibration(folder / f"{name}.calib.npz", arrays)
    store.write_groups(folder / f"{name}.fresh.npz", groups)
    shapes = {"calibration": arrays, **groups}
    for part, of_part in shapes.items():
        click.echo(f"{part}: " + ", ".join(f"{key} {array.shape}" for key, array in of_part.items()))


def compare(name: str, original: Path, pruned: Path, folder: Path) -> Figures:
    family, groups = files.FILES[name].family, store.read_groups(folder / f"{name}.fresh.npz")
    models = Loaded.of(original), Loaded.of(pruned)
    return {
        **family.judge(*models, groups),
        **latency(*models, family.timed(models[0], groups)),
        "bytes_original": original.stat().st_size,
        "bytes_pruned": pruned.stat().st_size,
    }


def in_a_line(record: dict[str, Any]) -> str:
    cells = (record["name"], record["arm"], tables.ending(record), f"{record['wall_s']:.0f} s ({record['cpu_s']:.0f})")
    rest = f"{record['peak_gib']:.2f} GiB", tables.speed(record), tables.judged(record)
    return "  ".join(filter(None, (*cells, *rest)))


@main.command()
@NAME
@click.argument("original", type=click.Path(exists=True, path_type=Path))
@click.argument("pruned", type=click.Path(exists=True, path_type=Path))
@place
def judge(name: str, original: Path, pruned: Path, folder: Path) -> None:
    """Compare two models on fresh inputs: a line for people, then JSON."""
    figures = compare(name, original, pruned, folder)
    record = {"name": name, "exit_code": 0, "figures": figures}
    click.echo(f"{name}  {tables.speed(record)}  {tables.size(record)} MB  {tables.judged(record)}", err=True)
    click.echo(json.dumps(figures, indent=1))


@main.command()
@NAME
@place
@click.option("--arm", "arms", multiple=True, default=("default",), help="default, speedup2, macs0.6, keep0.9, ...")
@click.option("--onnxmi", "program", default="onnxmi", help="The program to run.")
@click.option("--label", default="", help="What to call this version of it in the table.")
@click.option("--limit", "limit_s", default=900.0, help="Seconds after which it is stopped.")
@click.option("--option", "extra", multiple=True, help="More words for its command line.")
def run(
    name: str, folder: Path, arms: tuple[str, ...], program: str, label: str, limit_s: float, extra: tuple[str, ...]
) -> None:
    """Prune NAME by the command line in each arm, judge what comes out, and add a line to results.jsonl."""
    model = folder / f"{name}.onnx"
    for arm in arms:
        stem = folder / "-".join(filter(None, (name, arm, label)))
        pruned = Path(f"{stem}.pruned.onnx")
        for result in (pruned, pruned.with_suffix(".plan.json")):
            result.unlink(missing_ok=True)
        words = [*pruning.options(arm), "--threads", "1", "-o", str(pruned), *extra]
        command = [program, "prune", str(model), str(folder / f"{name}.calib.npz"), *words]
        spent = pruning.run(command, Path(f"{stem}.log"), limit_s)
        record: dict[str, Any] = {"name": name, "arm": arm, "label": label, **asdict(spent)}
        if spent.exit_code == 0:
            record["figures"] = compare(name, model, pruned, folder)
        store.append(folder / RESULTS, record)
        click.echo(in_a_line(record))


@main.command()
@place
def table(folder: Path) -> None:
    """Print the results as a table."""
    click.echo(tables.table(store.records(folder / RESULTS)))


if __name__ == "__main__":
    main()
