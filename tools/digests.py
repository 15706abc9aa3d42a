"""Digests of what the package makes of fixed models, options and plans: held through a change that must change nothing.

    python tools/digests.py record before.json
    python tools/digests.py compare before.json

Models are the bundled ones, random networks that together have every step and operator that random models are made of,
and an encoder with words of which one position is read. `--with FOLDER` adds every NAME.onnx there that has a
NAME.calib.npz beside it. All of it is deterministic: no budget of time, one thread, and times are left out of JSON.
A run that is refused counts as its exception and its message. Digests hold for one machine and its libraries.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import onnxmi  # noqa: E402
from onnxmi.cli import main  # noqa: E402
from onnxmi.errors import OnnxmiError  # noqa: E402
from tests.support.build import Build  # noqa: E402
from tests.support.random_models import random_network  # noqa: E402

KINDS = "channels,ffn,heads,hidden,qk,value,width"
ALL_KINDS = tuple(KINDS.split(","))
COUNT = 66  # samples of a random network; a multiple of every fixed batch
# Together they have all steps and operators that the first 400 networks have.
NETWORKS = (44, 51, 226, 375, 129, 215, 99, 209, 243, 195, 241, 254, 74, 265, 3, 15, 38, 148)
# Keys of JSON output that say when, where or how fast.
VOLATILE = {"latency", "latency_ms", "command", "versions", "seconds", "output", "plan", "model", "input"}

Artefacts = dict[str, str]
Case = tuple[str, Callable[[], Artefacts]]


# -- one run ----------------------------------------------------------------------------------------------------------


def digest(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:24]


def model_bytes(proto: onnx.ModelProto) -> bytes:
    return bytes(proto.SerializeToString(deterministic=True))


def of_result(result: onnxmi.Result) -> Artefacts:
    cost = [[cost.parameters, cost.size, cost.macs] for cost in (result.before, result.after)]
    return {
        "model": digest(model_bytes(result.proto)),
        "plan": digest(result.plan.to_json()),
        "cost": digest(repr(cost)),
        "notes": digest("\n".join(filter(_is_steady, result.notes))),
    }


def refused(error: OnnxmiError) -> Artefacts:
    return {"refused": type(error).__name__, "said": digest(str(error))}


def pruned(proto: Any, arrays: Any, again: bool = False, **options: Any) -> Artefacts:
    """Prune by the library; `again` also gives the plan back, with the samples and without."""
    chosen = onnxmi.PruneOptions(latency=False, threads=1, **options)
    try:
        result = onnxmi.prune(proto, arrays, chosen)
    except OnnxmiError as error:
        return refused(error)
    made = of_result(result)
    if again:
        made |= _again(proto, arrays, chosen, result.plan)
    return made


def _again(proto: Any, arrays: Any, options: onnxmi.PruneOptions, plan: onnxmi.Plan) -> Artefacts:
    made = {}
    free = replace(options, keep=None)  # the plan says what stays
    for name, run in {
        "replayed": lambda: onnxmi.prune(proto, arrays, free, plan=plan).proto,
        "applied": lambda: onnxmi.apply(proto, plan).proto,
    }.items():
        try:
            made[name] = digest(model_bytes(run()))
        except OnnxmiError as error:
            made[name] = f"{type(error).__name__} {digest(str(error))}"
    return made


def swept(proto: Any, arrays: Any) -> Artefacts:
    curve = onnxmi.sweep(proto, arrays, onnxmi.PruneOptions(threads=1), by="macs", shares=(0.8, 0.5))
    figures = [(point.share, point.cost.macs, point.cost.size) for point in curve.points]
    return {"points": digest(repr(figures))}


def commanded(*arguments: str, files: Iterable[str] = ()) -> Artefacts:
    """Run a command in an empty folder: its JSON without what is volatile, and the files that it leaves."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        done = CliRunner().invoke(main, [*arguments, "--json"])
        made = {"exit": str(done.exit_code)}
        if done.exit_code == 0:
            made["json"] = digest(json.dumps(_steady(json.loads(done.stdout)), sort_keys=True))
        for name in files:
            made[name] = digest(Path(name).read_bytes()) if Path(name).exists() else "missing"
    return made


def _steady(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_steady(inner) for inner in value if _is_steady(inner)] if isinstance(value, list) else value


def _is_steady(note: Any) -> bool:
    """Whether a note does not depend on what time was measured."""
    return not (isinstance(note, str) and note.startswith("the result is slower than the model"))


# -- what is run ------------------------------------------------------------------------------------------------------


def of_files(model: Path, calibration: Path) -> Iterator[Case]:
    """The command line on a model of a file."""
    name, paths = model.stem, (str(model), str(calibration))
    common = ("-o", "out.onnx", "--threads", "1", "--force")
    runs = {
        "half": ("--keep", "0.5"),
        "half of every kind": ("--keep", "0.5", "--cut", KINDS),
        "plain": ("--keep", "0.5", "--no-repair"),
        "magnitude": ("--keep", "0.7", "--score", "magnitude"),
        "pairwise binned": ("--keep", "0.5", "--score", "pairwise", "--estimator", "binned"),
        "labels": ("--keep", "0.5", "--target", "labels"),
        "macs": ("--macs", "0.5"),
        "params aligned": ("--params", "0.6", "--align", "8"),
    }
    for title, options in runs.items():
        files = ("out.onnx", "out.plan.json")
        yield f"{name}: {title}", partial(commanded, "prune", *paths, *common, *options, files=files)
    yield f"{name}: capture", partial(commanded, "capture", *paths, "-o", "stats", "--threads", "1", files=("stats",))
    yield f"{name}: inspect", partial(commanded, "inspect", str(model))
    yield f"{name}: least loss", partial(pruned, model, calibration, few_samples=True, seed=1)


def of_network(number: int) -> Iterator[Case]:
    network = random_network(random.Random(number))
    arrays, size = network.samples(COUNT, 0), len(model_bytes(network.proto))
    run = partial(pruned, network.proto, arrays, seed=number)
    yield f"network {number}: least loss", partial(run, few_samples=True)
    yield f"network {number}: half", partial(run, keep=0.5, cut=ALL_KINDS, force=True, again=True)
    yield f"network {number}: plain", partial(run, keep=0.5, cut=ALL_KINDS, repair=False, force=True, again=True)
    yield f"network {number}: macs", partial(run, macs=0.5)
    yield f"network {number}: size", partial(run, max_size=round(size * 0.8))


def encoder() -> onnx.ModelProto:
    """Words, a block with a residual connection and attention, and a classifier that reads the first position."""
    b = Build()
    ids = b.input("N", "S", name="ids", dtype=np.int64)
    x = b.op("LayerNormalization", b.op("Gather", b.weight(101, 11, name="table"), ids), b.vector(11), b.vector(11))
    scores = b.op("MatMul", b.dense(x, 11, 7), b.op("Transpose", b.dense(x, 11, 7), perm=[0, 2, 1]))
    x = b.op("Add", x, b.dense(b.op("MatMul", b.op("Softmax", scores, axis=-1), b.dense(x, 11, 13)), 13, 11))
    x = b.op("Add", x, b.dense(b.op("Relu", b.dense(x, 11, 17)), 17, 11))
    x = b.op("LayerNormalization", x, b.vector(11), b.vector(11))
    first = b.op("Gather", x, b.const(np.array(0)), axis=1)
    return b.proto(b.dense(first, 11, 3))


def of_encoder() -> Iterator[Case]:
    proto, rng = encoder(), np.random.default_rng(0)
    arrays = {"ids": np.minimum(rng.geometric(0.05, size=(90, 5)), 101) - 1}
    run = partial(pruned, proto, arrays, force=True)
    yield "encoder: embedding", partial(run, keep=0.5, cut=("embedding", "ffn"), again=True)
    yield "encoder: queries and keys", partial(run, keep=0.5, cut=("qk", "value"), again=True)
    yield "encoder: macs", partial(run, macs=0.6, cut=(*ALL_KINDS, "embedding"))
    yield "encoder: sweep", partial(swept, proto, arrays)


def cases(more: Path | None) -> Iterator[Case]:
    for folder in filter(None, (ROOT / "models", more)):
        for model in sorted(folder.glob("*.onnx")):
            calibration = model.with_suffix(".calib.npz")
            if calibration.exists():
                yield from of_files(model, calibration)
    yield from of_encoder()
    for number in NETWORKS:
        yield from of_network(number)


# -- command line -----------------------------------------------------------------------------------------------------


def measured(more: Path | None, match: str) -> dict[str, Artefacts]:
    found: dict[str, Artefacts] = {}
    for name, run in cases(more):
        if match in name:
            started = time.process_time()
            found[name] = run()
            click.echo(f"{time.process_time() - started:6.1f} s  {name}", err=True)
    return found


def differences(before: Mapping[str, Artefacts], after: Mapping[str, Artefacts]) -> Iterator[str]:
    for name in sorted(before.keys() & after.keys()):
        for part in sorted(before[name].keys() | after[name].keys()):
            old, new = (side[name].get(part, "nothing") for side in (before, after))
            if old != new:
                yield f"{name}: {part} was {old}, is {new}"


@click.group(help=__doc__)
def cli() -> None:
    pass


WITH = click.option("--with", "more", type=click.Path(exists=True, path_type=Path), help="Folder of more models.")
MATCH = click.option("--match", default="", help="Only cases with this in their name.")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@WITH
@MATCH
def record(file: Path, more: Path | None, match: str) -> None:
    """Write the digests to FILE."""
    file.write_text(json.dumps(measured(more, match), indent=1) + "\n", encoding="utf-8")


@cli.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@WITH
@MATCH
def compare(file: Path, more: Path | None, match: str) -> None:
    """Say what is other than in FILE; exit with 1 if anything is."""
    before, after = json.loads(file.read_text(encoding="utf-8")), measured(more, match)
    found = list(differences(before, after))
    for line in found:
        click.echo(line)
    same = len(before.keys() & after.keys())
    click.echo(f"{same} runs compared, {len(found)} differences")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    cli()
