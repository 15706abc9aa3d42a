"""What time a cut model would take, from times measured on this machine.

Plain cuts of the model to sizes drawn at random are timed, a few in turn with the original, and their times explained
by what they have of each kind of work: multiply-accumulates by configuration of the operator, elements written by the
others, and a fixed rest. So the model is measured as onnxruntime runs it, with its fusions and layouts, and not
operators on their own. No kind of work takes negative time; and where times do not tell kinds apart, each takes what
work of its unit usually does, so that none seems to be free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.budget.size_grid import block_of_processor
from onnxmi.graph.channel_graph import ChannelGraph, Layer, LayerId, UnitCounts
from onnxmi.graph.cost_model import CostModel, Piece, node_pieces
from onnxmi.graph.macs import node_macs
from onnxmi.model import Model, Node
from onnxmi.model.external_data import byte_size
from onnxmi.operators.registry import operator_of
from onnxmi.runtime.session import Feeds
from onnxmi.runtime.stopwatch import OWN, Stopwatch
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Floats, Ints, Progress, silent

Shapes = Mapping[str, tuple[int, ...]]

PROBES = 24  # random cuts that are timed
QUANTIZED_PROBES = 12  # where each has to be quantized first
IN_TURN = 4  # cuts that are timed in turn with the original, which runs once for all of them
IN_TURN_BYTES = 2**28  # of as many models as are held at once for that; one cut and the original always are
RUNS = 30  # of each
SECONDS = 0.3  # for each model, at most, unless six runs take longer: the longer a run, the less noise it has
ANCHOR = 2.0  # weight of the original, which every prediction is relative to
USUAL = 0.01  # weight of the usual time of a kind of work, in timed cuts: it decides where these do not
LEAST = 1e-4  # share of the whole time that a kind of work usually takes at least


@dataclass(frozen=True)
class KindOfWork:
    """What operators do.

    Attributes
    ----------
    unit : str
        "MACs" or "elements".
    name : str
        The configuration of the operators.
    """

    unit: str
    name: str


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Times predicted for any sizes of the layers.

    Attributes
    ----------
    cost : CostModel
        ms a run.
    error : float
        Median relative error of the fit on cuts that it was not fitted to (each left out in turn).
    """

    cost: CostModel
    error: float


def sample_sizes(sizes: Mapping[LayerId, Ints], count: int, seed: int) -> list[UnitCounts]:
    """Sizes for some random cuts; none is nothing.

    Every cut has its own share of what may stay, from little to nearly all, around which its layers are drawn.
    """
    rng = np.random.default_rng(seed)
    draws: list[UnitCounts] = []
    # Levels spread evenly over the range, and layers scattered around each: sizes vary together and apart.
    for level in (np.arange(count) + 0.5) / count:
        picked = {}
        for layer, options in sizes.items():
            usable = options[options > 0]
            near = usable[-1] * np.clip(level + rng.normal(scale=0.25), 0.02, 1.0)
            picked[layer] = int(usable[np.abs(usable - near).argmin()])
        draws.append(picked)
    return draws


def keep_first_units(layers: Sequence[Layer], draw: Mapping[LayerId, int]) -> Keeping:
    """Keep the first units of each layer: for time it does not matter which."""
    counts = {layer.id: (draw.get(layer.id, layer.size), layer.size) for layer in layers}
    return Keeping({layer: Kept(np.arange(count)) for layer, (count, size) in counts.items() if count < size})


def time_cuts(
    analysis: Analysis,
    draws: Sequence[UnitCounts],
    feeds: Feeds,
    threads: int,
    progress: Progress = silent,
    written: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda proto: proto,
    stopwatch: Stopwatch = OWN,
) -> tuple[float, Floats]:
    """Time the original, ms, and cuts relative to it (n,).

    Parameters
    ----------
    written : callable(proto)
        Turns each of these models into the file that is deployed, such as its 8-bit version.
    stopwatch : Stopwatch, optional
        Who times them; by default this process.
    """
    original = written(analysis.model.proto)
    count = min(max(IN_TURN_BYTES // max(byte_size(original), 1), 1), IN_TURN)
    shares: list[float] = []
    whole: list[float] = []
    progress("time", 0, len(draws))
    for first in range(0, len(draws), count):
        together = draws[first : first + count]
        cuts = [
            written(prune_channels(Cut(analysis, keep_first_units(analysis.graph.layers, one)))) for one in together
        ]
        # One thread's own processor time does not see other processes.
        clock, seconds = "cpu" if threads == 1 else "wall", SECONDS * (len(cuts) + 1)
        was, *now = stopwatch.measure(
            (original, *cuts), feeds, threads=threads, runs=RUNS, seconds=seconds, clock=clock
        )
        shares.extend(1.0 / latency.speedup_over(was) for latency in now)
        whole.append(was.median)
        progress("time", len(shares), len(draws))
    return float(np.median(whole)), np.array(shares)


def fit_times(
    work: Mapping[KindOfWork, CostModel],
    draws: Sequence[UnitCounts],
    dense: float,
    shares: Floats,
    layers: Sequence[LayerId],
) -> LatencyModel:
    """Explain times by kinds of work.

    Parameters
    ----------
    work : mapping
        Kind of work -> its amount as a function of the sizes.
    draws, shares : sequence, (n,)
        Sizes, and the time they took relative to the original.
    dense : float
        Time of the original, ms.
    """
    kinds = [kind for kind, model in work.items() if model.total({})]
    full = np.array([work[kind].total({}) for kind in kinds])
    rows = np.array([[work[kind].total(draw) for kind in kinds] / full for draw in [*draws, {}]])
    # Divided by the measured time: the relative error counts, so that small cuts are fitted as well as large ones.
    table = np.column_stack([rows, np.ones(len(rows))]) / np.append(shares, 1.0)[:, None]
    weights = np.append(np.ones(len(shares)), ANCHOR)
    by_unit = _by_unit(kinds, full)
    factors = _factors(table, weights, by_unit)
    # Leave-one-out: how far the time of a cut that was not fitted to is from its prediction.
    left_out = [
        abs(float(table[i] @ _factors(np.delete(table, i, axis=0), np.delete(weights, i), by_unit)) - 1.0)
        for i in range(len(shares))
    ]
    pieces = [
        Piece(piece.full / amount * factor * dense, piece.terms, piece.block)
        for kind, amount, factor in zip(kinds, full, factors, strict=False)
        for piece in (*work[kind].pieces, Piece(work[kind].fixed, ()))
    ]
    cost = CostModel.of([*pieces, Piece(float(factors[-1]) * dense, ())], layers)
    return LatencyModel(cost, float(np.median(left_out)) if left_out else 0.0)


def _by_unit(kinds: Sequence[KindOfWork], full: Floats) -> Floats:
    """(kinds + 1, units + 1) shares of the kinds in all work of a unit; the fixed rest is one of its own."""
    units = sorted({kind.unit for kind in kinds})
    shares = np.zeros((len(kinds) + 1, len(units) + 1))
    for row, (kind, amount) in enumerate(zip(kinds, full, strict=True)):
        shares[row, units.index(kind.unit)] = amount
    shares[-1, -1] = 1.0
    return np.asarray(shares / shares.sum(0))


def _factors(table: Floats, weights: Floats, by_unit: Floats) -> Floats:
    """Factors of the kinds of work, from timed cuts and from what work of the same unit usually takes.

    Parameters
    ----------
    table : (cuts, kinds + 1) float64
        What cuts have of each kind, over the time that they took.
    weights : (cuts,) float64
        What each cut counts.
    by_unit : (kinds + 1, units + 1) float64
        See `_by_unit`.
    """
    # Few cuts tell a rate for each unit, but not which of two kinds that grow alike takes the time.
    usual = np.maximum(by_unit @ _non_negative((table @ by_unit) * weights[:, None], weights), LEAST)
    known = np.sqrt(USUAL)
    equations = np.vstack([table * usual * weights[:, None], known * np.eye(len(usual))])
    # In units of the usual factor, so that a kind may be off by the same ratio whatever it takes.
    return usual * _non_negative(equations, np.append(weights, np.full(len(usual), known)))


def _non_negative(equations: Floats, results: Floats) -> Floats:
    """Solve by least squares, with no factor below zero: negative ones would extrapolate wildly."""
    factors = np.zeros(equations.shape[1])
    used = np.arange(equations.shape[1])
    while used.size:
        solved = np.linalg.lstsq(equations[:, used], results, rcond=None)[0]
        if (solved >= 0.0).all():
            factors[used] = solved
            break
        # The most negative factor goes first; with few kinds this finds what an active-set method would.
        used = np.delete(used, np.argmin(solved))
    return factors


# -- kinds of work ----------------------------------------------------------------------------------------------------


def kinds_of_work(
    model: Model, graph: ChannelGraph, shapes: Shapes, layers: Sequence[LayerId]
) -> dict[KindOfWork, CostModel]:
    """Amounts of each kind of work in a model, as functions of the layers' sizes."""
    pieces: dict[KindOfWork, list[Piece]] = defaultdict(list)
    for node in model.graph.nodes:
        kind = _kind(node, shapes)
        if kind is not None and node_macs(node, shapes):
            pieces[KindOfWork("MACs", kind)] += _product_pieces(node, graph, shapes)
            pieces[KindOfWork("elements", f"results of {node.op}")].append(_element_piece(node, graph, shapes))
        elif kind is not None:
            pieces[KindOfWork("elements", kind)].append(_element_piece(node, graph, shapes))
    return {kind: CostModel.of(own, layers) for kind, own in pieces.items()}


def _kind(node: Node, shapes: Shapes) -> str | None:
    """Name an operator's configuration: what it does at how many places; None where it makes no tensor of numbers."""
    shape = shapes.get(node.outputs[0])
    if not shape or len(shape) < 2:
        return None
    if operator_of(node).cost_class == "convolution":
        grouped = "grouped " if node.attributes.get("group", 1) > 1 else ""
        return f"{grouped}{node.op} {shapes.get(node.inputs[1], ())[2:]} {shape[2:]}"
    if node_macs(node, shapes):
        return f"{node.op} {len(shape)}"
    return "slow elements" if operator_of(node).cost_class == "slow" else "elements"


def _product_pieces(node: Node, graph: ChannelGraph, shapes: Shapes) -> list[Piece]:
    blocked = operator_of(node).cost_class == "convolution" and node.attributes.get("group", 1) == 1
    return node_pieces(node, graph, shapes, block_of_processor() if blocked else 1)


def _element_piece(node: Node, graph: ChannelGraph, shapes: Shapes) -> Piece:
    name = node.outputs[0]
    return Piece(float(np.prod(shapes[name])), graph.axes.get(name, ()))
