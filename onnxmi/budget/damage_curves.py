"""Damage curves: what cutting one layer alone to some sizes does to the outputs, predicted or measured.

What cannot be predicted (see `onnxmi.budget.predicted_damage`) is measured: a layer is cut to a few sizes, repaired in
one pass, and run on some samples; everything before the layer is run once only. Errors of layers cut together add up
about as their squares do, so the damage of a whole plan is the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx

from onnxmi.axes.terms import AtomId, atoms
from onnxmi.errors import ModelError, stage
from onnxmi.evaluation.damage_reference import DamageReference
from onnxmi.graph.channel_graph import ChannelGraph, LayerId
from onnxmi.model import Model
from onnxmi.model.subgraph import PartialModel
from onnxmi.repair import repair_one_pass
from onnxmi.runtime.session import open_session
from onnxmi.runtime.stepper import Stepper
from onnxmi.selection.top_down import Ranking
from onnxmi.statistics.statistics_file import StatisticsFile
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import Floats, Ints

UNUSABLE = 1e6  # damage of what cannot be run, or gives what is not finite
ONE_RIDGE = (1e-3,)  # a search would take most of the time, and every layer gains alike from it
NOTHING: Mapping[LayerId, Mapping[int, float]] = MappingProxyType({})
SHARES = (0.85, 0.7, 0.55, 0.4, 0.28, 0.18, 0.09, 0.03, 0.01, 0.0)  # of a layer's size, at which it is priced


@dataclass(frozen=True, eq=False)
class DamageCurve:
    """What a layer's sizes cost the outputs.

    Attributes
    ----------
    sizes : (n,) int64
        Ascending; the last is the whole layer.
    damage : (n,) float64
        Of the outputs (see `onnxmi.evaluation.yardstick`), if the layer is cut alone; never rising with the size, 0
        at the last.
    """

    sizes: Ints
    damage: Floats

    def at(self, sizes: Ints) -> Floats:
        """Damage at other sizes, interpolated: geometrically, as damage falls by orders of magnitude."""
        # A logarithm of 0 would pull every size between to 0.
        floor = max(float(self.damage[self.damage > 0].min(initial=1.0)) * 1e-2, 1e-12)
        logs = np.interp(sizes, self.sizes, np.log(np.maximum(self.damage, floor)))
        return np.where(sizes >= self.sizes[-1], 0.0, np.exp(logs))


def measure_damage_curves(
    analysis: Analysis,
    rankings: Mapping[LayerId, Ranking],
    sizes: Mapping[LayerId, Ints],
    statistics: StatisticsFile | None,
    ruler: DamageReference,
    threads: int,
    predicted: Mapping[LayerId, Mapping[int, float]] = NOTHING,
) -> Iterator[tuple[LayerId, DamageCurve]]:
    """Yield the damage curve of every ranked layer, in the order of the graph; measure what was not predicted.

    Parameters
    ----------
    rankings : mapping
        Layer id -> its units in the order of their worth.
    sizes : mapping
        Layer id -> sizes it may be cut to, ascending, the last its own.
    statistics : StatisticsFile or None
        To fit the one-pass repair on, as the final model will be repaired; without it, unrepaired cuts are measured.
    ruler : DamageReference
        The original's answers on the samples to measure on.
    predicted : mapping
        Layer id -> size -> damage, where that is known already.
    """
    model = analysis.model
    walk = Stepper(model.proto, ruler.feeds, threads)
    entries = {atom: _entry(model, analysis.graph, atom) for atom in rankings}
    # In the order of the graph, so that the stepper only ever goes forward.
    for atom, entry in sorted(entries.items(), key=lambda pair: pair[1]):
        layer = rankings[atom].layer
        priced = priced_sizes(sizes[layer.id])
        known = predicted.get(layer.id, {})
        damage = np.array([known.get(size, 0.0) for size in priced.tolist()])
        missing = [(number, size) for number, size in enumerate(priced[:-1].tolist()) if size not in known]
        # Where all sizes were predicted, the model need not be run up to the layer at all.
        if missing:
            for _ in walk.to(_read_by(model, entry)):
                pass
        for number, size in missing:
            cut = Cut(analysis, rankings[atom].keeping(size))
            with stage("price", layer.name):
                replacements = () if statistics is None else repair_one_pass(cut, statistics, ONE_RIDGE).replacements
                damage[number] = _damage(prune_channels(cut, replacements), walk, ruler, threads)
        # Cutting more never counts as better: what is measured of few samples is noisy.
        yield layer.id, DamageCurve(priced, np.maximum.accumulate(damage[::-1])[::-1])


def _entry(model: Model, graph: ChannelGraph, atom: AtomId) -> int:
    """First node that a cut of the layer changes anything for: everything before it can be run once."""
    carrying = {
        name for name, axes in graph.axes.items() if any(dim.id == atom for term in axes for dim in atoms(term))
    }
    apart = {use for use, axes in graph.uses.items() if any(dim.id == atom for term in axes for dim in atoms(term))}
    return next(
        model.graph.outermost(node).index
        for node in model.graph.nodes
        if carrying.intersection([*node.inputs, *node.outputs]) or any(use[0] == node.index for use in apart)
    )


def _read_by(model: Model, node: int) -> list[str]:
    """Tensors that a node reads and that another node makes."""
    graph = model.graph
    return [name for name in (*graph.nodes[node].inputs, *graph.nodes[node].captures) if name in graph.producers]


def priced_sizes(sizes: Ints) -> Ints:
    """The sizes nearest to `SHARES` of the whole, and the whole."""
    # A fixed number of points: the time of a curve must not grow with the layer.
    nearest = {int(sizes[np.abs(sizes - share * sizes[-1]).argmin()]) for share in SHARES}
    return np.array(sorted(nearest | {int(sizes[-1])}), dtype=np.int64)


def _damage(proto: onnx.ModelProto, walk: Stepper, ruler: DamageReference, threads: int) -> float:
    """Run what comes after the cut; what was ready before it is the original's."""
    names = [view.tensor for view in ruler.yardstick.views if view.tensor not in walk.made]
    pieces = PartialModel(proto)
    nodes = pieces.nodes_to_run(names, given=walk.states[0].keys())
    try:
        session = open_session(pieces.model(nodes, walk.states[0], set(names)), threads=threads)
        inputs = [value.name for value in session.session.get_inputs()]
        damage = ruler.damage(session.run({name: state[name] for name in inputs}) for state in walk.states)
    except ModelError:  # a size that the rest of the model cannot run with is none to choose
        return UNUSABLE
    return min(damage, UNUSABLE)
