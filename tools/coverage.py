"""Put every model of a zoo through one of several modes, and write docs/coverage.md.

    python tools/coverage.py --zoo ../shared/zoo --out docs/coverage.md
    python tools/coverage.py --zoo ../shared/zoo --mode repair --sample 60 --out docs/coverage.md

One process a model, with limits on time and memory, so that a crash is a line of the table. Records are JSON lines;
with --resume those that are there already are not made again.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import click
from coverage_one import MODES, Record
from coverage_page import document, render, summary
from coverage_run import run_one
from trials.parts import let_workers_import

from onnxmi.execution.choose import opened_workers
from onnxmi.execution.executor import Task, as_they_end
from onnxmi.typing import silent


def _names(zoo: Path) -> list[str]:
    return sorted(path.name.removesuffix(".onnx.xz") for path in zoo.glob("*.onnx.xz"))


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path), default=Path("../shared/zoo"), help="Folder with zoo.py.")
@click.option("--unpacked", type=click.Path(path_type=Path), help="Folder to keep unpacked models in.")
@click.option("--mode", type=click.Choice(list(MODES)), default="random", help="What each model is put through.")
@click.option("--records", type=click.Path(path_type=Path), default=Path("coverage.jsonl"), help="JSON lines.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown document to put the table in.")
@click.option("--sample", type=int, help="A seeded sample of so many models.")
@click.option("--match", default="", help="Only models with this in their names.")
@click.option("--seed", default=0, help="Of the sample and of what is cut.")
@click.option("--resume", is_flag=True, help="Keep the records that are there.")
@click.option("--jobs", default=2, help="Models at a time.")
@click.option("--dask", metavar="ADDRESS|local[:N]", help="Instead: workers that see the zoo and import tools/.")
@click.option("--seconds", default=300, help="Limit of processor time for a model.")
@click.option("--gigabytes", default=12, help="Memory limit for a model.")
@click.option("--one", type=click.Path(path_type=Path), hidden=True, help="Examine one file and print its record.")
def main(one: Path | None, **options: Any) -> None:
    """Put every model of a zoo through one mode, and tabulate what came of it."""
    if one is not None:
        calibration = one.with_name(f"{one.stem}.calib.npz")
        click.echo(json.dumps(MODES[options["mode"]](str(one), str(calibration), options["seed"])))
        return
    records = _survey(options)
    mode, out = options["mode"], options["out"]
    if out:
        section = render(mode, records, _command(options))
        old = out.read_text(encoding="utf-8") if out.exists() else ""
        out.write_text(document(old, mode, section), encoding="utf-8")
    click.echo(summary(mode, records))


def _command(options: dict[str, Any]) -> str:
    picked = "".join(f" --{name} {options[name]}" for name in ("sample", "match") if options[name])
    where = f"--zoo {options['zoo']} --mode {options['mode']} --out {options['out']}"
    return f"python tools/coverage.py {where}{picked} --seed {options['seed']}"


def _survey(options: dict[str, Any]) -> list[Record]:
    names = [name for name in _names(options["zoo"]) if options["match"] in name]
    if options["sample"]:
        names = sorted(random.Random(options["seed"]).sample(names, min(options["sample"], len(names))))
    path: Path = options["records"]
    lines = path.read_text().splitlines() if options["resume"] and path.exists() else []
    known = {record["model"]: record for record in map(json.loads, lines)}
    missing = [name for name in names if name not in known]
    how = (options["mode"], _absolute(options["zoo"]), _absolute(options["unpacked"]), options["seed"])
    limits = (options["seconds"], options["gigabytes"])
    tasks = [Task("coverage", run_one, (name, *how, *limits)) for name in missing]
    let_workers_import()
    with opened_workers(options["dask"] or options["jobs"]) as workers, path.open("a" if lines else "w") as stream:
        assert workers is not None
        for _, record in as_they_end(workers.executor, tasks, silent):
            known[record["model"]] = record
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            click.echo(_line(record), err=True)
    return [known[name] for name in names]


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _line(record: Record) -> str:
    removed = record.get("removed_other", record.get("removed"))
    share = "-" if removed is None else f"{removed:.2f}"
    spent = record.get("cpu_s", record["total_s"])
    return f"{record['model']:44s} {record['status']:9s} {share:5s} {spent:6.1f}s {record.get('why', '')}"


if __name__ == "__main__":
    main()
