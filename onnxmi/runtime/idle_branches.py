"""Branches of an If that a run did not take: each is run by itself, on what it reads, to learn its shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnxmi.errors import ModelError
from onnxmi.model import Body, Graph, Model, Node
from onnxmi.model.subgraph import PartialModel
from onnxmi.model.taps import Seen
from onnxmi.runtime.session import open_session

_INDIFFERENT = frozenset({"Identity", "Squeeze", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class IdleBranches:
    """What is known of branches that were not taken.

    Attributes
    ----------
    seen : mapping of tensor name to Seen
        What their tensors are; nothing is told of a branch that does not run, or that is inside a loop.
    impossible : frozenset of str
        What those branches give that the nodes after them do not run on: they are never taken with such inputs. And
        what a branch computes that does not run itself, where no size matters to it: `squeeze` of an axis that may be
        one is written as such a branch.
    """

    seen: Mapping[str, Seen] = field(default_factory=dict)
    impossible: frozenset[str] = frozenset()


def run_idle_branches(model: Model, seen: Mapping[str, Seen]) -> IdleBranches:
    """Run them on what a run of the model showed.

    Parameters
    ----------
    seen : mapping
        All tensors that were computed, and the inputs.
    """
    graph, known = model.graph, dict(seen)
    found: dict[str, Seen] = {}
    impossible: set[str] = set()
    for node in sorted(graph.nodes, key=lambda node: node.depth):  # a branch inside an idle one comes after that
        for body in node.bodies if node.op == "If" else ():
            inside = [name for index in body.nodes for name in graph.nodes[index].outputs]
            if not known.keys().isdisjoint(inside):
                continue
            alone = _run(model, node, body, known)
            found |= alone
            known |= alone
            if alone and not _goes_on(model, node, body, known):
                impossible.update(body.outputs)
            elif not alone and all(_is_indifferent(graph, index) for index in body.nodes):
                impossible.update(inside)
    return IdleBranches(found, frozenset(impossible))


def _is_indifferent(graph: Graph, index: int) -> bool:
    """Whether a node gives the same entries in another shape, however many there are of them."""
    node = graph.nodes[index]
    return node.op in _INDIFFERENT and all(graph.is_constant(name) for name in node.inputs[1:])


def _run(model: Model, node: Node, body: Body, known: Mapping[str, Seen]) -> dict[str, Seen]:
    graph = model.graph
    read = [name for name in node.captures if not graph.is_constant(name)]
    if any(name not in known or known[name].loops for name in read):
        return {}
    names = [name for index in _within(graph, body) for name in _tensors_of(graph.nodes[index])]
    return _run_nodes(model, body.nodes, {name: known[name] for name in read}, names)


def _goes_on(model: Model, node: Node, body: Body, known: Mapping[str, Seen]) -> bool:
    """Whether the nodes beside an If run on what a branch gives, as far as that can be told."""
    graph = model.graph
    given = dict(known)
    for result, inner in zip(node.outputs, body.outputs, strict=False):
        if result in known and inner in known and known[result].shape == known[inner].shape:
            continue
        given[result] = known.get(inner, given.get(result, Seen(None)))
    owner = graph.owners.get(node.index)
    level = graph.main if owner is None else [graph.nodes[i] for one in owner.bodies for i in one.nodes]
    changed, after = set(node.outputs), list[int]()
    for other in level:
        if other.index > node.index and changed.intersection((*other.inputs, *other.captures)):
            after.append(other.index)
            changed.update(other.outputs)
    made = {name for index in after for name in graph.nodes[index].outputs}
    read = {name for index in after for name in (*graph.nodes[index].inputs, *graph.nodes[index].captures)} - made
    needed = {name: given.get(name) for name in read if name and not graph.is_constant(name)}
    if not after or any(one is None or not one.is_array or one.loops for one in needed.values()):
        return True
    fed = {name: one for name, one in needed.items() if one is not None}
    return bool(_run_nodes(model, after, fed, sorted(filter(None, made))))


def _run_nodes(model: Model, nodes: Sequence[int], given: Mapping[str, Seen], taps: Iterable[str]) -> dict[str, Seen]:
    """Run some nodes of one graph; nothing is returned where they do not run."""
    graph = model.graph
    read = {name for index in nodes for name in (*graph.nodes[index].inputs, *graph.nodes[index].captures)}
    stored = {graph.producers[name].index for name in read if graph.is_constant(name) and name in graph.producers}
    made = {name for index in nodes for name in graph.nodes[index].outputs if name}
    values = {name: one.value for name, one in given.items()}
    try:
        piece = PartialModel(model.proto).model([*sorted(stored), *nodes], values, made)
        session = open_session(piece, taps=list(dict.fromkeys(taps)), optimise=False)
        return session.see({value.name: values[value.name] for value in piece.graph.input})
    except ModelError:
        return {}


def _within(graph: Graph, body: Body) -> Iterator[int]:
    """Nodes of a body, and of those inside it."""
    for index in body.nodes:
        for inner in graph.nodes[index].bodies:
            yield from _within(graph, inner)
        yield index


def _tensors_of(node: Node) -> Iterator[str]:
    yield from filter(None, node.outputs)
    for body in node.bodies:
        yield from body.inputs
