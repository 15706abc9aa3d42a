"""The oracle of a rewrite: the cut model equals the original with the cut channels zeroed where they are consumed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import AtomId
from onnxmi.graph.channel_graph import ChannelGraph, Layer, LayerId
from onnxmi.graph.infer import infer
from onnxmi.graph.linear import find_linears
from onnxmi.model import Model
from onnxmi.model.bodies import bodies_of, nested_nodes
from onnxmi.runtime.probe import Probe, probe, run_shapes
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.hoist_gather import (
    find_unused_positions,
    hoist_position_gather,
    saves_work,
)
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.verification.checks import masked_original

TOLERANCE = 1e-5
NUDGES, LAST_BITS = 8, 5e-7  # draws of inputs and weights, and how far apart: about four times a rounding
ROUNDINGS = 2  # times what that does: every operator on the way rounds, too


@dataclass(frozen=True, eq=False)
class Case:
    """A model with its channel graph, and with the states in its interface that may be cut (inputs -> outputs)."""

    model: Model
    states: Mapping[str, str] | None = None

    @staticmethod
    def of(proto: onnx.ModelProto, states: Mapping[str, str] | None = None) -> Case:
        return Case(Model.of(proto), states)

    def read(self) -> Case:
        """The case without positions that nothing reads; fails where leaving them out would change an output."""
        model, _ = hoist_position_gather(self.model, self.probe)
        worth = saves_work(self.model.graph, find_unused_positions(self.model.graph, self.probe.shapes))
        assert (model is not self.model) == worth, "an output changed with the positions that are left out"
        return Case(model) if worth else self

    @cached_property
    def probe(self) -> Probe:
        return probe(self.model)

    @cached_property
    def graph(self) -> ChannelGraph:
        return infer(self.model, self.probe, self.states)

    @cached_property
    def analysis(self) -> Analysis:
        linears = find_linears(self.model.graph, self.graph)
        return Analysis(self.model, self.model, self.probe, self.graph, linears)

    @property
    def layers(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.graph.layers}

    @property
    def sizes(self) -> list[int]:
        """Sizes of the layers, in order: what most tests look at."""
        return [layer.size for layer in self.graph.layers]

    @property
    def reasons(self) -> str:
        return "; ".join(frozen.reason for frozen in self.graph.frozen)

    def feeds(self, seed: int = 1) -> Feeds:
        """Other random numbers in the probe's shapes."""
        rng = np.random.default_rng(seed)
        return {
            name: rng.normal(size=value.shape).astype(value.dtype) if value.dtype.kind == "f" else value
            for name, value in self.probe.feeds.items()
        }

    def cut(self, keeping: Mapping[AtomId, Kept]) -> onnx.ModelProto:
        return prune_channels(self.cut_of(keeping))

    def cut_of(self, keeping: Mapping[AtomId, Kept]) -> Cut:
        return Cut(self.analysis, Keeping(keeping))

    def masked(self, keeping: Mapping[AtomId, Kept]) -> onnx.ModelProto:
        return masked_original(self.model, self.graph, self.probe, Keeping(keeping))


def keep_first(layer: Layer, count: int) -> Kept:
    return Kept(np.arange(count))


def spread(layer: Layer, count: int) -> Kept:
    """Keep `count` units: every other one, other ones in every part of a ragged layer."""
    if layer.outer_atom is None:
        return Kept(np.sort((np.arange(count) * 2 + 1) % layer.size) if layer.size % 2 else np.arange(count))
    rng = np.random.default_rng(layer.size)
    return Kept(np.stack([np.sort(rng.permutation(layer.size)[:count]) for _ in range(layer.parts)]), layer.outer_atom)


def cut_all(case: Case, drop: int = 1) -> Keeping:
    """A plan that takes `drop` units from every layer (from every part of a ragged one)."""
    return Keeping({layer.id: spread(layer, max(1, layer.size - drop)) for layer in case.graph.layers})


def random_plan(graph: ChannelGraph, rng: random.Random) -> Keeping:
    """Random kept sets for some layers; ragged ones mostly where a layer is ragged."""
    kept: dict[LayerId, Kept] = {}
    for layer in graph.layers:
        if rng.random() < 0.75:
            count = rng.randint(1, layer.size - 1)
            ragged = layer.outer_atom is not None and rng.random() < 0.75
            sets = [sorted(rng.sample(range(layer.size), count)) for _ in range(layer.parts if ragged else 1)]
            kept[layer.id] = layer.keep(np.array(sets if ragged else sets[0]))
    return Keeping(kept)


def run(proto: onnx.ModelProto, feeds: Feeds) -> list[np.ndarray]:
    """Outputs in order, without onnxruntime's optimizer."""
    return list(open_session(proto, optimise=False, threads=1).run(feeds).values())


def gap(wanted: list[np.ndarray], got: list[np.ndarray]) -> float:
    """Largest difference, relative to the largest number of its output, or to 1e-2 where its terms cancel out.

    A rounding of terms about one is 6e-8: below 1e-2 that is more than the tolerance allows.
    """
    assert [a.shape for a in wanted] == [b.shape for b in got]
    worst = 0.0
    for a, b in zip(wanted, got, strict=True):
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        assert np.isfinite(a).all()
        assert np.isfinite(b).all()
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / max(float(np.abs(a).max(initial=0.0)), 1e-2))
    return worst


def rounding(proto: onnx.ModelProto, feeds: Feeds) -> float:
    """What a change of inputs and weights by their last bits does to the outputs, at most.

    That is more than usual where a sum cancels out and is scaled up, as in a normalization that has one unit left.
    """
    rng, wanted = np.random.default_rng(1), run(proto, feeds)
    return max(gap(wanted, run(*_nudged(proto, feeds, rng))) for _ in range(NUDGES))


def _nudged(proto: onnx.ModelProto, feeds: Feeds, rng: np.random.Generator) -> tuple[onnx.ModelProto, Feeds]:
    def nudge(value: np.ndarray) -> np.ndarray:
        bits = rng.uniform(-LAST_BITS, LAST_BITS, size=value.shape)
        return np.asarray(value * (1 + bits)).astype(value.dtype) if value.dtype.kind == "f" else value

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    bodies = (body for node in nested_nodes(made.graph) for _, body in bodies_of(node))
    for tensor in (tensor for graph in (made.graph, *bodies) for tensor in graph.initializer):
        tensor.CopyFrom(numpy_helper.from_array(nudge(numpy_helper.to_array(tensor)), tensor.name))
    return made, {name: nudge(value) for name, value in feeds.items()}


def assert_exact(case: Case, keeping: Mapping[AtomId, Kept], tolerance: float = TOLERANCE) -> onnx.ModelProto:
    """Cut, and compare with the masked original, in values and in the shape of every tensor; return the cut model."""
    cut, masked, feeds = case.cut(keeping), case.masked(keeping), case.feeds()
    difference = gap(run(masked, feeds), run(cut, feeds))
    allowed = tolerance if difference <= tolerance else max(tolerance, ROUNDINGS * rounding(masked, feeds))
    assert difference <= allowed, f"differs by {difference:.1e} from the masked original ({allowed:.1e} allowed)"
    for name, shape in run_shapes(cut, case.probe.feeds).items():
        axes = case.graph.axes.get(name)
        if axes is not None:
            assert shape == Keeping(keeping).shape(axes), name
    return cut


def assert_prunes(proto: onnx.ModelProto, *sizes: int, drop: int = 1) -> Case:
    """The model has exactly these layers, and cutting all of them is exact and changes the result."""
    case = Case.of(proto)
    assert sorted(case.sizes) == sorted(sizes), (case.graph.layers, case.graph.frozen)
    keeping = cut_all(case, drop)
    assert_exact(case, keeping)
    onnx.checker.check_model(case.cut(keeping), full_check=True)
    feeds = case.feeds()
    assert gap(run(proto, feeds), run(case.masked(keeping), feeds)) > TOLERANCE, "the plan cuts nothing that matters"
    return case


def assert_frozen(proto: onnx.ModelProto, *reasons: str) -> Case:
    """Nothing can be cut, and each reason is given."""
    case = Case.of(proto)
    assert case.sizes == [], case.graph.layers
    for reason in reasons:
        assert reason in case.reasons
    return case
