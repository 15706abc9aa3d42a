"""Cut every model of a zoo at random to half, verify each result, and write docs/coverage.md.

    python tools/coverage.py --zoo ../shared/zoo --out docs/coverage.md

One process a model, with limits on time and memory, so that a crash is a line of the table. Records are JSON lines;
with --resume those that are there already are not made again.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np

KEEP = 0.5
PAYS = 0.4  # share of the non-vocabulary parameters that a model should lose at KEEP
SAMPLES = 2
Record = dict[str, Any]


# -- one model, in a process of its own -------------------------------------------------------------------------------


def examine(model_path: str, calibration_path: str, seed: int) -> Record:
    from onnxmi.calibration import load_calibration
    from onnxmi.dims.infer import infer
    from onnxmi.errors import OnnxmiError
    from onnxmi.model import load
    from onnxmi.probe import probe

    record: Record = {}
    try:
        model = load(model_path)
        record |= _describe(model)
        data = load_calibration(calibration_path, model.graph)
        step = data.step or min(3, data.count)
        started = time.perf_counter()
        seen = probe(model, data.feed(np.resize(np.arange(data.count), step)))
        probed = time.perf_counter()
        graph = infer(model, seen)
        record["probe_s"] = round(probed - started, 2)
        record["analysis_s"] = round(time.perf_counter() - probed, 2)
        record |= _layers(model, graph)
        record["capture_s"] = _capture_seconds(model, graph, data)
        record |= _cut(model, graph, seen, data, seed)
    except OnnxmiError as error:
        record["status"] = "refused" if error.exit_code in (1, 2, 3) and "cut_s" not in record else "failed"
        record["why"] = f"{type(error).__name__}: {error}"[:300]
    return record


def _describe(model: Any) -> Record:
    ops = Counter(node.op for node in model.graph.nodes)
    attention = ops["Softmax"] or any("Attention" in op for op in ops)
    convolutions = ops["Conv"] + ops["FusedConv"] + ops["QLinearConv"] + ops["ConvTranspose"] + ops["ConvInteger"]
    products = ops["MatMul"] + ops["Gemm"]
    kind = "CNN" if convolutions > products else "transformer" if attention and products > 8 else "other"
    return {
        "exporter": f"{model.proto.producer_name or '?'} {model.proto.producer_version}".strip()[:24],
        "opset": model.graph.opset,
        "nodes": len(model.graph.nodes),
        "family": kind,
    }


def _layers(model: Any, graph: Any) -> Record:
    carried = _carried(model, graph)
    reasons: Counter[str] = Counter()
    for frozen in graph.frozen:
        reasons[frozen.reason] += carried.get(frozen.id, 0)
    return {
        "kinds": dict(Counter(layer.kind for layer in graph.layers)),
        "frozen": [[reason, count] for reason, count in reasons.most_common(4)],
        "frozen_count": len(graph.frozen),
    }


def _carried(model: Any, graph: Any) -> Counter[int]:
    """Atom -> parameters of the tensors that carry it."""
    from onnxmi.dims.term import atoms

    found: Counter[int] = Counter()
    for name in model.graph.constants:
        if model.graph.constant(name).dtype != np.int64:
            here = {atom.id for term in graph.axes.get(name, ()) for atom in atoms(term)}
            found.update(dict.fromkeys(here, prod(model.graph.constant_shape(name))))
    return found


def _keeping(layers: Any, seed: int) -> dict[int, Any]:
    """Half of every layer's units at random, other ones in every part of a ragged layer."""
    from onnxmi.dims.term import Kept

    rng = np.random.default_rng(seed)
    keeping = {}
    for layer in layers:
        count = max(1, round(layer.size * KEEP))
        if count == layer.size:
            continue
        rows = [np.sort(rng.permutation(layer.size)[:count]) for _ in range(layer.parts)]
        ragged = layer.over is not None
        keeping[layer.id] = Kept(np.stack(rows) if ragged else rows[0], layer.over if ragged else None)
    return keeping


def _cut(model: Any, graph: Any, seen: Any, data: Any, seed: int) -> Record:
    from onnxmi.cost import cost, parameters
    from onnxmi.model import Graph
    from onnxmi.rewrite import rewrite
    from onnxmi.verify import check_equivalence, check_result, check_shapes

    if not graph.layers:
        return {"status": "refused", "why": "nothing to prune: no layer can be cut"}
    feeds = [f for _, f in data.batches(np.arange(min(data.count, max(SAMPLES, data.step or 1))), SAMPLES)][:SAMPLES]
    started = time.perf_counter()
    exact = _keeping([layer for layer in graph.layers if layer.grade == "exact"], seed)
    checks = []
    if exact:
        cut = rewrite(model, graph, exact)
        checks.append(check_equivalence(model, graph, seen, exact, cut, feeds))
        checks.append(check_shapes(graph, seen, exact, cut, seen.feeds))
    everything = _keeping(graph.layers, seed)
    cut = rewrite(model, graph, everything)
    if len(everything) > len(exact):
        checks.append(check_equivalence(model, graph, seen, everything, cut, feeds))
        checks.append(check_shapes(graph, seen, everything, cut, seen.feeds))
    checks.extend(check_result(model, cut, feeds))
    failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    one = data.feed(np.arange(data.step or min(2, data.count)))  # some graphs do not run on a single sample
    before, after = cost(model.proto, one), cost(cut, one)
    tables = _vocabulary(model.graph)
    words = sum(prod(model.graph.constant_shape(name)) for name in tables)
    left = sum(prod(Graph(cut).constant_shape(name)) for name in tables)
    other = parameters(model.graph) - words
    shares = {
        "removed": 1 - after.parameters / max(1, before.parameters),
        "removed_other": 1 - (after.parameters - left) / max(1, other),
    }
    return {
        "status": "failed" if failed else "verified",
        "why": "; ".join(failed)[:300],
        **(shares if other else {}),
        "removed_macs": 1 - after.macs / max(1, before.macs),
        "parameters": before.parameters,
        "cut_s": round(time.perf_counter() - started, 2),
    }


def _vocabulary(graph: Any) -> set[str]:
    """Stored tables that only Gather reads, by ids that are fed; and copies of them in output heads."""
    tables = {
        name
        for name in graph.constants
        if (readers := graph.consumers.get(name)) and len(graph.constant_shape(name)) == 2
        if any(node.op == "Gather" and operand == 0 and node.inputs[1] not in graph.folded for node, operand in readers)
    }
    shapes = {graph.constant_shape(name)[::order]: name for name in tables for order in (1, -1)}
    heads = {
        name
        for name in graph.constants
        if name not in tables and graph.constant_shape(name) in shapes and _same(graph, name, shapes)
    }
    return tables | heads


def _same(graph: Any, name: str, shapes: dict[Any, str]) -> bool:
    table, head = graph.constant(shapes[graph.constant_shape(name)]), graph.constant(name)
    return any(np.array_equal(table, other) for other in (head, head.T))


def _capture_seconds(model: Any, graph: Any, data: Any) -> float:
    """What it takes to run the samples and to look at everything that is contracted, moments not included."""
    from onnxmi.runtime import open_session

    taps = {model.graph.nodes[use.node].inputs[use.operand] for use in graph.contractions}
    taps &= set(model.graph.producers) - set(model.graph.constants)
    if not taps:
        return 0.0
    started = time.perf_counter()
    session = open_session(model.proto, taps=sorted(taps))
    for _, feeds in data.batches(np.arange(data.count), 32):
        session.run(feeds)
    return round(time.perf_counter() - started, 2)


# -- all models -------------------------------------------------------------------------------------------------------


def _run_one(name: str, zoo: Path, unpacked: Path | None, seed: int, limits: tuple[int, int]) -> Record:
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked or Path(scratch)
        if not (folder / f"{name}.onnx").exists():
            subprocess.run([sys.executable, zoo / "zoo.py", "unpack", name, "--to", folder], check=True)
        command = [sys.executable, __file__, "--one", folder / f"{name}.onnx", "--seed", str(seed)]
        seconds, gigabytes = limits

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))

        started = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, preexec_fn=limit)
            record = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else _crash(done)
        except subprocess.TimeoutExpired:
            record = {"status": "crashed", "why": f"took longer than {seconds} s"}
        return {"model": name, **record, "total_s": round(time.perf_counter() - started, 1)}


def _crash(done: subprocess.CompletedProcess[str]) -> Record:
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"status": "crashed", "why": lines[-1][:300]}


def _names(zoo: Path) -> list[str]:
    return sorted(path.name.removesuffix(".onnx.xz") for path in zoo.glob("*.onnx.xz"))


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path), default=Path("../shared/zoo"), help="Folder with zoo.py.")
@click.option("--unpacked", type=click.Path(path_type=Path), help="Folder to keep unpacked models in.")
@click.option("--records", type=click.Path(path_type=Path), default=Path("coverage.jsonl"), help="JSON lines.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown table to write.")
@click.option("--sample", type=int, help="A seeded sample of so many models.")
@click.option("--match", default="", help="Only models with this in their names.")
@click.option("--seed", default=0, help="Of the sample and of what is cut.")
@click.option("--resume", is_flag=True, help="Keep the records that are there.")
@click.option("--jobs", default=2, help="Models at a time.")
@click.option("--seconds", default=300, help="Time limit for a model.")
@click.option("--gigabytes", default=12, help="Memory limit for a model.")
@click.option("--one", type=click.Path(path_type=Path), hidden=True, help="Examine one file and print its record.")
def main(one: Path | None, **options: Any) -> None:
    """Cut every model of a zoo at random to half, verify, and tabulate."""
    if one is not None:
        calibration = one.with_name(f"{one.stem}.calib.npz")
        click.echo(json.dumps(examine(str(one), str(calibration), options["seed"])))
        return
    records = _survey(options)
    if options["out"]:
        options["out"].write_text(render(records, options), encoding="utf-8")
    click.echo(_summary(records))


def _survey(options: dict[str, Any]) -> list[Record]:
    names = [name for name in _names(options["zoo"]) if options["match"] in name]
    if options["sample"]:
        names = sorted(random.Random(options["seed"]).sample(names, min(options["sample"], len(names))))
    path: Path = options["records"]
    lines = path.read_text().splitlines() if options["resume"] and path.exists() else []
    known = {record["model"]: record for record in map(json.loads, lines)}
    missing = [name for name in names if name not in known]
    limits = (options["seconds"], options["gigabytes"])
    with ThreadPoolExecutor(options["jobs"]) as pool, path.open("a" if options["resume"] else "w") as stream:
        made = pool.map(
            lambda name: _run_one(name, options["zoo"], options["unpacked"], options["seed"], limits), missing
        )
        for record in made:
            known[record["model"]] = record
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            click.echo(_line(record), err=True)
    return [known[name] for name in names]


def _line(record: Record) -> str:
    share = f"{record['removed_other']:.2f}" if "removed_other" in record else "-"
    return f"{record['model']:44s} {record['status']:9s} {share:5s} {record['total_s']:6.1f}s {record.get('why', '')}"


def _weighs(record: Record) -> bool:
    """Whether the model has stored weights at all (test files with made weights have none)."""
    return record["status"] != "verified" or "removed_other" in record


def _summary(records: list[Record]) -> str:
    states = Counter(record["status"] for record in records)
    lines = [f"{len(records)} models: " + ", ".join(f"{count} {state}" for state, count in states.most_common())]
    for family in ("transformer", "CNN", "other"):
        counted = [record for record in records if record.get("family") == family and _weighs(record)]
        shares = [record.get("removed_other", 0.0) for record in counted]
        if shares:
            enough = sum(share >= PAYS for share in shares)
            lines.append(
                f"{family}: {enough} of {len(shares)} ({enough / len(shares):.0%}) lose {PAYS:.0%} or more of their "
                f"parameters that are not vocabulary tables (median {np.median(shares):.0%})"
            )
    return "\n".join(lines)


# -- the document -----------------------------------------------------------------------------------------------------


def render(records: list[Record], options: dict[str, Any]) -> str:
    """The Markdown document."""
    picked = f" --sample {options['sample']}" if options["sample"] else ""
    picked += f" --seed {options['seed']}"
    rows = [_row(record) for record in records]
    head = (
        "model",
        "exporter",
        "opset",
        "nodes",
        "layers",
        "parameters",
        "without vocabulary",
        "MACs",
        "state",
        "time",
    )
    rule = ["---"] * len(head)
    table = ["| " + " | ".join(map(str, row)) + " |" for row in (head, rule, *rows)]
    return "\n".join(
        [
            "# Coverage",
            "",
            "Every model is cut at random: half of the units of every layer of every",
            "kind, the residual width included.",
            "The weights are random too: this shows what can be cut and that it is cut rightly, never accuracy.",
            "",
            "Made by",
            "",
            f"    python tools/coverage.py --zoo {options['zoo']} --out {options['out']}{picked}",
            "",
            *(f"- {line}" for line in _summary(records).splitlines()),
            "",
            "Columns: layers found by kind; the share removed of all parameters, of those that are no vocabulary",
            "tables, and of the multiply-accumulates; whether the result was verified, or why not; seconds for the",
            "probe, the inference and a plain run over the calibration samples.",
            "",
            *table,
            "",
            f"## Why less than {PAYS:.0%}: what was frozen, with the parameters that carry it",
            "",
            *_reasons(records),
            "",
            *_BODIES,
            "",
        ]
    )


_BODIES = """## Bodies of If, Loop and Scan

They are left alone. Merged decoders have the whole network in the two branches of one If, which read the same
weights. To cut them both branches have to be run, as shapes and activations are measured and not guessed, and
onnxruntime shows no tensor inside a body. So each branch would have to be lifted out into a model of its own, with
samples for both (those of a file take one of them), both analysed as one so that what they share is cut alike, and
put back. That is another program than this one; and the same exporters write the branches as files of their own
(`decoder_model.onnx`, `decoder_with_past_model.onnx`), which are cut.
""".splitlines()


def _row(record: Record) -> tuple[Any, ...]:
    shares = [f"{record[key]:.0%}" if key in record else "" for key in ("removed", "removed_other", "removed_macs")]
    layers = ", ".join(f"{count} {kind}" for kind, count in sorted(record.get("kinds", {}).items()))
    state = record["status"] + (f": {_cell(record['why'])}" if record.get("why") else "")
    times = " / ".join(f"{record[key]:.1f}" for key in ("probe_s", "analysis_s", "capture_s") if key in record)
    described = [record.get(key, "") for key in ("exporter", "opset", "nodes")]
    return (record["model"], *described, layers, *shares, state, times)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:160]


def _reasons(records: list[Record]) -> list[str]:
    lines = []
    for record in records:
        if record.get("removed_other", 0.0) >= PAYS or not _weighs(record):
            continue
        told = [f"{_cell(reason)} ({count:,})" for reason, count in record.get("frozen", []) if count]
        lines.append(f"- {record['model']}: " + ("; ".join(told) or _cell(record.get("why", "")) or "nothing frozen"))
    return lines


if __name__ == "__main__":
    main()
