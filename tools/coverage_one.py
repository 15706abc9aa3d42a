"""What one model of a survey is put through: a random cut of everything, or the whole pipeline in one of its modes."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

KEEP = 0.5
SAMPLES = 2
EVERY_KIND = ("channels", "ffn", "heads", "hidden", "qk", "value", "width")
Record = dict[str, Any]


def cut_at_random(model_path: str, calibration_path: str, seed: int) -> Record:
    """Half of the units of every layer, at random, without scores or repair."""
    from onnxmi.data.calibration import load_calibration
    from onnxmi.errors import OnnxmiError
    from onnxmi.graph.infer import infer
    from onnxmi.graph.linear import find_linears
    from onnxmi.model import load
    from onnxmi.runtime.probe import probe
    from onnxmi.transforms.analysis import Analysis

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
        analysis = Analysis(model, model, seen, graph, find_linears(model.graph, graph))
        record["probe_s"] = round(probed - started, 2)
        record["analysis_s"] = round(time.perf_counter() - probed, 2)
        record |= _layers(model, graph)
        record["capture_s"] = _capture_seconds(model, graph, data)
        record |= _cut(analysis, data, seed)
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
    from onnxmi.axes.terms import atoms

    found: Counter[int] = Counter()
    for name in model.graph.constants:
        if model.graph.constant(name).dtype != np.int64:
            here = {atom.id for term in graph.axes.get(name, ()) for atom in atoms(term)}
            found.update(dict.fromkeys(here, prod(model.graph.constant_shape(name))))
    return found


def _keeping(layers: Any, seed: int) -> Any:
    """Half of every layer's units at random, other ones in every part of a ragged layer."""
    from onnxmi.axes.keeping import Keeping

    rng = np.random.default_rng(seed)
    keeping = {}
    for layer in layers:
        count = max(1, round(layer.size * KEEP))
        if count == layer.size:
            continue
        rows = [np.sort(rng.permutation(layer.size)[:count]) for _ in range(layer.parts)]
        keeping[layer.id] = layer.keep(rows[0] if layer.outer_atom is None else np.stack(rows))
    return Keeping(keeping)


def _cut(analysis: Any, data: Any, seed: int) -> Record:
    from onnxmi.graph.cost import cost, parameters
    from onnxmi.model import Graph
    from onnxmi.transforms.cut import Cut
    from onnxmi.transforms.prune_channels import prune_channels
    from onnxmi.verification.checks import check_equivalence, check_result, check_shapes

    model, graph, seen = analysis.model, analysis.graph, analysis.probe
    if not graph.layers:
        return {"status": "refused", "why": "nothing to prune: no layer can be cut"}
    feeds = [f for _, f in data.batches(np.arange(min(data.count, max(SAMPLES, data.step or 1))), SAMPLES)][:SAMPLES]
    started = time.perf_counter()
    exact = _keeping([layer for layer in graph.layers if layer.grade == "exact"], seed)
    checks = []
    if exact:
        cut = prune_channels(Cut(analysis, exact))
        checks.append(check_equivalence(model, graph, seen, exact, cut, feeds))
        checks.append(check_shapes(graph, seen, exact, cut, seen.feeds))
    everything = _keeping(graph.layers, seed)
    cut = prune_channels(Cut(analysis, everything))
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
    from onnxmi.runtime.session import open_session

    taps = {model.graph.nodes[use.node].inputs[use.operand] for use in graph.contractions}
    taps &= set(model.graph.producers) - set(model.graph.constants)
    if not taps:
        return 0.0
    started = time.perf_counter()
    session = open_session(model.proto, taps=sorted(taps))
    for _, feeds in data.batches(np.arange(data.count), 32):
        session.run(feeds)
    return round(time.perf_counter() - started, 2)


# -- the whole pipeline -----------------------------------------------------------------------------------------------


def _pipeline(**asked: Any) -> Callable[[str, str, int], Record]:
    """A mode that prunes with these options."""

    def examine(model_path: str, calibration_path: str, seed: int) -> Record:
        from onnxmi import PruneOptions, load, prune
        from onnxmi.errors import CheckError, InvariantError, OnnxmiError

        model, options = load(model_path), PruneOptions(threads=1, latency=False, seed=seed, **asked)
        record = _describe(model)
        with np.load(calibration_path) as arrays:
            data = {name: arrays[name] for name in arrays}
        started = time.process_time()
        try:
            result = prune(model, data, options)
            record |= {
                "status": "written",
                "removed": 1 - result.after.parameters / max(1, result.before.parameters),
                "removed_macs": 1 - result.after.macs / max(1, result.before.macs),
            }
        except InvariantError as error:
            record |= {"status": "crashed", "why": f"{type(error).__name__}: {error}"[:300]}
        except OnnxmiError as error:
            failed = isinstance(error, CheckError) and "a check failed" in str(error)
            record |= {"status": "failed" if failed else "refused", "why": str(error)[:300]}
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} in {place.filename.rpartition('/')[2]}, {place.name}: {error}"
            record |= {"status": "crashed", "why": why[:300]}
        return record | {"cpu_s": round(time.process_time() - started, 1)}

    return examine


MODES: dict[str, Callable[[str, str, int], Record]] = {
    "random": cut_at_random,
    "repair": _pipeline(keep=KEEP, cut=EVERY_KIND),
    "macs": _pipeline(macs=0.5),
    "default": _pipeline(few_samples=True),  # a file of the zoo has 8 to 16
}
