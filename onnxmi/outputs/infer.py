"""Infer what each output of a model means: what of it is compared, where its columns are, and of what kind it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnxmi.axes.terms import atoms
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.dataflow import Flow
from onnxmi.model import Model, TensorInfo
from onnxmi.outputs.axes import AxisFinder
from onnxmi.outputs.columns import ColumnFinder
from onnxmi.outputs.kinds import Facts, InferredKind, detector_roles, infer_kind
from onnxmi.outputs.override import Override, apply_overrides, check_ignored
from onnxmi.outputs.sample_axis import Runs, shapes_of
from onnxmi.outputs.trace import Leaf, Tracer
from onnxmi.outputs.uninitialized import find_uninitialized
from onnxmi.outputs.view import DISMISSED, Meaning, View
from onnxmi.runtime.probe import Probe
from onnxmi.runtime.states import STATES, find_states


def infer_meaning(
    model: Model,
    seen: Probe,
    graph: ChannelGraph,
    runs: Runs,
    overrides: Sequence[Override] = (),
    ignore: Sequence[str] = (),
    threads: int = 0,
) -> Meaning:
    """Find out what a model's outputs mean.

    Parameters
    ----------
    model, probe, graph : Model, Probe, ChannelGraph
        The model, what a run of it showed, and its axes.
    runs : Runs
        Inputs with different numbers of samples, such as `Runs.of(calibration)`.
    overrides : sequence of Override
        What the user says of outputs.
    ignore : sequence of str
        Graph outputs that are not to be compared.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.

    Raises
    ------
    UsageError
        If an output that the user speaks of is not there.
    """
    check_ignored(ignore, [info.name for info in model.graph.outputs])
    drafts, ignored = _compared_leaves(model, seen, graph, frozenset(ignore))
    shapes = shapes_of(model, [draft.leaf.tensor for draft in drafts], runs, threads)
    finder = AxisFinder.of(model.graph, seen, graph, shapes, runs.counts)
    placed = [_Placed(*finder.find(draft.output, draft.leaf)) for draft in drafts]
    if len(runs.counts) == 1 and runs.counts[0] > 1:
        placed, ignored = _with_sample_axis(placed, ignored)
    meaning = Meaning(_views(model, placed), ignored)
    return apply_overrides(meaning, overrides, {one.facts.leaf.tensor: one.facts.shape for one in placed})


@dataclass(frozen=True)
class _Draft:
    """A leaf of an output, before anything is known of its axes."""

    output: str
    leaf: Leaf


@dataclass(frozen=True)
class _Placed:
    """A leaf with what is known of its axes."""

    facts: Facts
    samples: int | None


def _with_sample_axis(placed: list[_Placed], ignored: dict[str, str]) -> tuple[list[_Placed], dict[str, str]]:
    """Leave out what has no axis of samples where several have to be run together."""
    kept = [one for one in placed if one.samples is not None]
    outputs = {one.facts.output for one in kept}
    lost = dict.fromkeys(one.facts.output for one in placed if one.facts.output not in outputs)
    return kept, ignored | dict.fromkeys(lost, "one tensor for all samples of a batch whose size is fixed")


def _compared_leaves(
    model: Model, seen: Probe, graph: ChannelGraph, ignore: frozenset[str]
) -> tuple[list[_Draft], dict[str, str]]:
    """Trace all outputs; a tensor is compared once, by what the output that says most of it does with it."""
    flow = Flow.of(model.graph)
    tracer = Tracer(model.graph, seen, flow, ColumnFinder.of(model.graph, graph))
    states = find_states(model.graph, seen)
    drafts: dict[str, _Draft] = {}
    ignored: dict[str, str] = {}
    for info in model.graph.outputs:
        if info.name in ignore:
            ignored[info.name] = DISMISSED
            continue
        leaves, reason = _uncut(graph, *_stands_for(info, tracer, states))
        roots = [tracer.root(leaf.tensor) for leaf in leaves]
        is_new = any(root not in drafts for root in roots)
        for root, leaf in zip(roots, leaves, strict=True):
            known = drafts.get(root)
            drafts[root] = _Draft(info.name, leaf) if known is None else _merged(known, leaf)
        if not is_new:
            others = dict.fromkeys(drafts[root].output for root in roots)
            ignored[info.name] = reason or f"computed from what is compared for {', '.join(others)}"
    return list(drafts.values()), ignored


def _stands_for(info: TensorInfo, tracer: Tracer, states: Mapping[str, str]) -> tuple[Sequence[Leaf], str]:
    """What stands for an output, or why nothing does."""
    graph, name = tracer.graph, info.name
    if name in graph.folded:
        return (), "stored in the file: no cut changes it"
    if name not in graph.producers:
        return (), "an input that is passed through"
    if name not in tracer.flow.learned:
        return (), "computed without weights: no cut changes it"
    if name in find_uninitialized(graph):
        return (), "its operator leaves a part of it uninitialized"
    if name in states:
        if not tracer.is_comparable(name):
            return (), "a state that is not a float tensor of known size"
        source = f"fed back as {states[name]}" if states[name] else "fed back, by its name"
        return (Leaf(name, role="state", why=source),), ""
    leaves = tracer.leaves(name)
    total = sum(leaf.share for leaf in leaves)
    return [
        replace(leaf, share=leaf.share / total) for leaf in leaves
    ], "" if leaves else "not computed from a float tensor"


def _uncut(graph: ChannelGraph, leaves: Sequence[Leaf], reason: str) -> tuple[Sequence[Leaf], str]:
    """Leave out hidden tensors that a decision picks from: a cut of their channels leaves nothing to compare."""
    layers = {layer.id for layer in graph.layers}
    kept = [leaf for leaf in leaves if not layers.intersection(_atoms(graph, leaf.tensor))]
    if leaves and not kept:
        return (), "what it is computed from may be cut"
    total = sum(leaf.share for leaf in kept)
    return [replace(leaf, share=leaf.share / total) for leaf in kept], reason


def _atoms(graph: ChannelGraph, tensor: str) -> set[int]:
    return {atom.id for term in graph.axes.get(tensor, ()) for atom in atoms(term)}


def _merged(draft: _Draft, leaf: Leaf) -> _Draft:
    """A tensor that several outputs are computed from: one that applies a function says what the numbers are."""
    known = draft.leaf
    if known.link == "identity" and known.role in ("", "boxes", "scores") and (leaf.link != "identity" or leaf.role):
        return replace(draft, leaf=replace(leaf, share=known.share, role=leaf.role or known.role))
    return draft


def _views(model: Model, placed: Sequence[_Placed]) -> tuple[View, ...]:
    """Name and weigh what is compared."""
    roles = detector_roles([one.facts for one in placed])
    placed = [
        replace(one, facts=replace(one.facts, leaf=replace(one.facts.leaf, role=role)))
        for one, role in zip(placed, roles, strict=True)
    ]
    names = _names([one.facts for one in placed])
    states = sum(one.facts.leaf.role == "state" for one in placed)
    return tuple(
        _view(name, one, infer_kind(model.graph, one.facts), states) for name, one in zip(names, placed, strict=True)
    )


def _view(name: str, one: _Placed, verdict: InferredKind, states: int) -> View:
    facts, leaf = one.facts, one.facts.leaf
    return View(
        name=name,
        output=facts.output,
        tensor=leaf.tensor,
        kind=verdict.kind,
        link=leaf.link,
        axes=facts.columns,
        sample_axis=one.samples,
        weight=STATES / states if verdict.kind == "state" else leaf.share,
        why=", ".join(filter(None, (leaf.why, verdict.why))),
        columns=facts.width,
        tentative=verdict.tentative,
    )


def _names(facts: Sequence[Facts]) -> list[str]:
    """Name an output's only part after it, several after what they are, numbered where that is the same."""
    names: list[str] = []
    for fact in facts:
        others = [other for other in facts if other.output == fact.output]
        parts = [_part(other) for other in others]
        if len(others) == 1:
            names.append(fact.output)
            continue
        place = next(n for n, other in enumerate(others) if other is fact)
        same = parts.count(parts[place]) > 1
        number = str(parts[: place + 1].count(parts[place])) if same else ""
        names.append(f"{fact.output}/{parts[place]}{number}")
    return names


def _part(facts: Facts) -> str:
    if facts.leaf.role in ("boxes", "scores"):
        return facts.leaf.role
    return "scores" if facts.leaf.link != "identity" else "part"
