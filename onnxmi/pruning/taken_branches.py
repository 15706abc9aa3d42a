"""Branches that the samples take. Of a branch that none takes nothing is known, so its layers are left alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from onnxmi.axes.terms import Term, atoms
from onnxmi.data.calibration import Calibration
from onnxmi.errors import ModelError
from onnxmi.graph.channel_graph import ChannelGraph, Layer
from onnxmi.model import Body, Graph, Model
from onnxmi.runtime.probe import sessions_showing
from onnxmi.runtime.session import Feeds
from onnxmi.transforms.analysis import Analysis

_BATCH = 32


@dataclass(frozen=True, eq=False)
class TakenBranches:
    """Which branches the samples take.

    Attributes
    ----------
    idle : frozenset of int
        Nodes of branches that no sample takes, and of loops that none runs through.
    feeds : tuple of Feeds
        Inputs that take all the others.
    """

    idle: frozenset[int] = frozenset()
    feeds: tuple[Feeds, ...] = ()


def find_taken_branches(model: Model, data: Calibration, threads: int) -> TakenBranches:
    """Run the samples until each body has been run, or to the end; a model without bodies is not run."""
    graph = model.graph
    bodies = [body for node in graph.nodes for body in node.bodies if body.nodes]
    if not bodies:
        return TakenBranches()
    results = [next(graph.nodes[index].result for index in body.nodes) for body in bodies]
    never, telling = _never_run(model, data, results, threads)
    idle = [body for body, name in zip(bodies, results, strict=True) if name in never]
    return TakenBranches(frozenset(index for body in idle for index in _within(graph, body)), tuple(telling))


def _never_run(
    model: Model, data: Calibration, results: Sequence[str], threads: int
) -> tuple[frozenset[str], list[Feeds]]:
    """Return which of some tensors no sample computes, and inputs that compute all others."""
    first = (feeds for _, feeds in data.packed(np.arange(min(data.count, _BATCH)), _BATCH))
    for session in sessions_showing(model.proto, results, first, threads):
        ran, telling = set[str](), list[Feeds]()
        with suppress(ModelError):  # a branch that runs only where it is taken is not shown by the next session
            for _, feeds in data.packed(np.arange(data.count), _BATCH):
                shown = session.see(feeds).items()
                here = {name for name, seen in shown if seen.counts and (seen.is_array or not seen.loops)}
                if here - ran:
                    telling.append(feeds)
                    ran |= here
                if len(ran) == len(session.taps):
                    break
            return frozenset(session.outputs) - ran, telling
    raise ModelError("the model does not run on the samples")


def layers_in_idle_branches(analysis: Analysis, idle: Collection[int], layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that have weights which only idle nodes read."""
    graph, channels = analysis.model.graph, analysis.graph
    readers = {name: {node.index for node, _ in graph.consumers.get(name, ())} for name in graph.constants if idle}
    alone = [name for name, nodes in readers.items() if nodes and nodes.issubset(idle)]
    held = {atom.id for name in alone for term in _terms(graph, channels, name) for atom in atoms(term)}
    return tuple(layer for layer in layers if layer.id in held)


def _within(graph: Graph, body: Body) -> Iterator[int]:
    for index in body.nodes:
        yield index
        for inner in graph.nodes[index].bodies:
            yield from _within(graph, inner)


def _terms(graph: Graph, channels: ChannelGraph, name: str) -> Iterator[Term]:
    yield from channels.axes.get(name, ())
    for node, operand in graph.consumers.get(name, ()):
        yield from channels.uses.get((node.index, operand), ())
