"""Inference: run every operator's rule, unify, and read the channel graph off the result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from onnxmi.dims.channel_graph import (
    Axes,
    ChannelGraph,
    Contraction,
    Frozen,
    Layer,
    Normalisation,
    PinnedAttribute,
    SizeAttribute,
    SizeOperand,
    Use,
)
from onnxmi.dims.rules import RULES
from onnxmi.dims.site import Declarations, Site, Terms
from onnxmi.dims.term import Dim, Product, Sum, Term, atoms, coordinates
from onnxmi.dims.unify import Solver
from onnxmi.model import Graph, Model, Node
from onnxmi.probe import Probe

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"})
_SHAPE_TYPES = frozenset({"int32", "int64", "uint32", "uint64", "bool"})  # positions and sizes; weights may be 8 bits


def infer(model: Model, probe: Probe) -> ChannelGraph:
    """Find out which axes can only be cut together, which cannot be cut, and where each is consumed."""
    inference = _Inference(model.graph, probe)
    inference.run_rules()
    inference.freeze_borders()
    inference.solver.settle_marks()
    return _read_off(inference)


class _Inference:
    """The state while rules run: the solver and a term for every axis of every tensor."""

    def __init__(self, graph: Graph, probe: Probe) -> None:
        self.graph, self.probe = graph, probe
        self.solver = Solver()
        self.declared = Declarations()
        self.tensors: dict[str, Terms] = {}
        self.uses: dict[Use, Terms] = {}

    def run_rules(self) -> None:
        for node in self.graph.nodes:
            site = Site(
                node=node,
                graph=self.graph,
                probe=self.probe,
                solver=self.solver,
                declared=self.declared,
                ins=[self._read(node, operand) for operand in range(len(node.inputs))],
                outs=[self._tensor(name) for name in node.outputs],
            )
            self._run_rule(site)

    def _run_rule(self, site: Site) -> None:
        rule = RULES.get((site.node.domain, site.node.op))
        if rule is None:
            domain = f"{site.node.domain}." if site.node.domain else ""
            site.freeze_all(f"is an operator without a rule ({domain}{site.node.op})")
        elif any(
            terms is None and name
            for name, terms in zip([*site.node.inputs, *site.node.outputs], [*site.ins, *site.outs], strict=True)
        ):
            site.freeze_all("has an operand whose shape is not known")
        else:
            rule(site)

    def _read(self, node: Node, operand: int) -> Terms | None:
        """Terms of an operand; a stored vector with several readers gets terms of its own for each reading."""
        name = node.inputs[operand]
        if self._is_shared_vector(name):
            self.uses[node.index, operand] = self._fresh(name) or ()
            return self.uses[node.index, operand]
        return self._tensor(name)

    def _is_shared_vector(self, name: str) -> bool:
        graph = self.graph
        return (
            graph.is_constant(name) and len(graph.constant_shape(name)) == 1 and len(graph.consumers.get(name, ())) > 1
        )

    def _tensor(self, name: str) -> Terms | None:
        if name not in self.tensors:
            terms = self._fresh(name)
            if terms is None:
                return None
            self.tensors[name] = terms
        return self.tensors[name]

    def _fresh(self, name: str) -> Terms | None:
        shape = self.probe.shapes.get(name)
        return None if shape is None else tuple(self.solver.dim(size) for size in shape)

    def freeze_borders(self) -> None:
        """The model's interface, and what subgraphs read, cannot change."""
        for info in self.graph.inputs:
            self._freeze(info.name, f"it is an axis of the graph input {info.name}")
        for info in self.graph.outputs:
            self._freeze(info.name, f"it is an axis of the graph output {info.name}")
        for name in self.graph.overridable:
            self._freeze(name, f"a caller may replace {name}, which is both initializer and graph input")
        for node in self.graph.nodes:
            for name in node.captures:
                self._freeze(name, f"{name} is used inside the body of {node.op} {node.label}")

    def _freeze(self, name: str, reason: str) -> None:
        for term in self.tensors.get(name, ()):
            self.solver.freeze(term, reason)


def _read_off(inference: _Inference) -> ChannelGraph:
    solver, declared = inference.solver, inference.declared
    axes = {name: tuple(map(solver.resolve, terms)) for name, terms in inference.tensors.items()}
    uses = {use: tuple(map(solver.resolve, terms)) for use, terms in inference.uses.items()}
    contractions = tuple(Contraction(n, i, a, solver.resolve(t), z) for n, i, a, t, z in declared.contractions)
    reader = _LayerReader(inference, axes, uses, contractions)
    layers, frozen = reader.read()
    return ChannelGraph(
        axes=axes,
        uses=uses,
        contractions=contractions,
        size_operands=tuple(
            SizeOperand(n, i, tuple(map(solver.resolve, terms)), value, literal, dtype)
            for n, i, terms, value, literal, dtype in declared.size_operands
        ),
        size_attributes=tuple(SizeAttribute(n, a, e, solver.resolve(t)) for n, a, e, t in declared.size_attributes),
        shape_readers=tuple(declared.shape_readers),
        layers=layers,
        frozen=frozen,
        normalisations=tuple(
            Normalisation(n, axes, tuple(map(solver.resolve, terms))) for n, axes, terms in declared.normalisations
        ),
        pinned=tuple(PinnedAttribute(n, a, v, solver.resolve(t)) for n, a, v, t in declared.pinned),
    )


@dataclass
class _LayerReader:
    """Picks the layers out of all atoms: carried by a stored tensor, contracted over, and not frozen."""

    inference: _Inference
    axes: Mapping[str, Axes]
    uses: Mapping[Use, Axes]
    contractions: tuple[Contraction, ...]

    def read(self) -> tuple[tuple[Layer, ...], tuple[Frozen, ...]]:
        makers, users, neighbours = self._makers(), self._users(), self._neighbours()
        solver, names = self.inference.solver, set[str]()
        layers: list[Layer] = []
        stuck: list[tuple[int, str]] = []
        for atom in sorted(self._carried() & set(users), key=lambda a: (makers.get(a, users[a]), a)):
            reason = solver.marks(atom).get("frozen") or self._tangled(atom, neighbours)
            if solver.size(atom) == 1:
                continue
            if reason:
                stuck.append((atom, reason))
            else:
                layers.append(
                    self._layer(atom, makers.get(atom, ()), users[atom], self._outer(atom, neighbours), names)
                )
        frozen = [
            Frozen(atom, self._name(makers.get(atom, users[atom]), "frozen", names), solver.size(atom), reason)
            for atom, reason in stuck
        ]
        return tuple(layers), tuple(frozen)

    def _layer(
        self, atom: int, makers: tuple[int, ...], users: tuple[int, ...], over: Dim | None, names: set[str]
    ) -> Layer:
        kind = self._kind(atom, makers, users)
        return Layer(
            id=atom,
            name=self._name(makers or users, kind, names),
            size=self.inference.solver.size(atom),
            kind=kind,
            grade="renormalising" if "renormalising" in self.inference.solver.marks(atom) else "exact",
            makers=makers,
            users=users,
            over=None if over is None else over.id,
            parts=1 if over is None else over.size,
        )

    def _name(self, nodes: tuple[int, ...], kind: str, taken: set[str]) -> str:
        """Name a layer after the first node that makes it; several of one node are told apart by their kind."""
        name = self.inference.graph.nodes[nodes[0]].label
        return _unique(f"{name}:{kind}" if name in taken else name, taken)

    def _carried(self) -> set[int]:
        """Atoms on an axis of a stored tensor of numbers (shape arithmetic does not count)."""
        graph, found = self.inference.graph, set[int]()
        for name, terms in self._stored():
            if graph.constant(name).dtype.name not in _SHAPE_TYPES:
                found.update(atom.id for term in terms for atom in atoms(term))
        return found

    def _stored(self) -> Iterator[tuple[str, Axes]]:
        graph = self.inference.graph
        for name in graph.constants:
            if name in self.axes:
                yield name, self.axes[name]
        for (node, operand), terms in self.uses.items():
            yield graph.nodes[node].inputs[operand], terms

    def _users(self) -> dict[int, tuple[int, ...]]:
        """Atom -> nodes that contract over it."""
        found: dict[int, set[int]] = defaultdict(set)
        for contraction in self.contractions:
            for atom in atoms(contraction.term):
                found[atom.id].add(contraction.node)
        return {atom: tuple(sorted(nodes)) for atom, nodes in found.items()}

    def _makers(self) -> dict[int, tuple[int, ...]]:
        """Atom -> nodes that contract over other atoms and have it on an output axis: they make its channels."""
        graph, found = self.inference.graph, defaultdict[int, set[int]](set)
        contracted: dict[int, set[int]] = defaultdict(set)
        for contraction in self.contractions:
            contracted[contraction.node].update(atom.id for atom in atoms(contraction.term))
        for node, inner in contracted.items():
            for term in self.axes.get(graph.nodes[node].outputs[0], ()):
                for atom in atoms(term):
                    if atom.id not in inner:
                        found[atom.id].add(node)
        return {atom: tuple(sorted(nodes)) for atom, nodes in found.items()}

    def _neighbours(self) -> dict[int, list[Axes]]:
        """Atom -> the terms of every tensor (reading) that carries it."""
        found: dict[int, list[Axes]] = defaultdict(list)
        for terms in [*self.axes.values(), *self.uses.values()]:
            for atom in {atom.id for term in terms for atom in atoms(term)}:
                found[atom].append(terms)
        return found

    def _outer(self, atom: int, neighbours: Mapping[int, list[Axes]]) -> Dim | None:
        """The atom that a layer is ragged over: it owns the layer in every tensor, and encloses it in some.

        It stands inside the layer in none: there the kept units would have to be in two orders at once.
        """
        tensors = neighbours[atom]
        enclosing = dict.fromkeys(outer for terms in tensors for term in terms for outer in _enclosing(term, atom))
        for outer in reversed(enclosing):
            inside = any(dim.id == atom for terms in tensors for term in terms for dim in _enclosing(term, outer.id))
            if outer.size > 1 and not inside and all(_owns(terms, outer.id, atom) for terms in tensors):
                return outer
        return None

    def _tangled(self, atom: int, neighbours: Mapping[int, list[Axes]]) -> str | None:
        """An atom that stands twice in one product has no index of its own."""
        if any(_repeats_in_product(term, atom) for terms in neighbours[atom] for term in terms):
            return "it is multiplied with itself on one axis"
        return None

    def _kind(self, atom: int, makers: tuple[int, ...], users: tuple[int, ...]) -> str:
        """Say what a layer is in the field's words, by what contracts over it and what carries it."""
        solver, nodes = self.inference.solver, self.inference.graph.nodes
        if "kind" in solver.marks(atom):
            return solver.marks(atom)["kind"]
        if "renormalising" in solver.marks(atom):
            return "width"
        if any(nodes[n].op in _CONVOLUTIONS for n in (*makers, *users)):
            return "channels"
        if any(node in self._bilinear for node in users):
            return "qk"
        if any(node in self._bilinear for node in makers):
            outer = any(self._on_both_operands(node, atom) for node in makers if node in self._bilinear)
            return "heads" if outer else "value"
        return "ffn" if any(self._makes_width(node) for node in users) else "hidden"

    @cached_property
    def _bilinear(self) -> frozenset[int]:
        """Nodes that contract an activation with an activation."""
        operands: dict[int, set[int]] = defaultdict(set)
        for contraction in self.contractions:
            operands[contraction.node].add(contraction.operand)
        return frozenset(node for node, found in operands.items() if len(found) > 1)

    def _on_both_operands(self, node: int, atom: int) -> bool:
        inputs = self.inference.graph.nodes[node].inputs[:2]
        return all(atom in {a.id for term in self.axes.get(name, ()) for a in atoms(term)} for name in inputs)

    def _makes_width(self, node: int) -> bool:
        made = self.axes.get(self.inference.graph.nodes[node].outputs[0], ())
        marks = [self.inference.solver.marks(a.id) for term in made for a in atoms(term)]
        return any("renormalising" in found for found in marks)


def _enclosing(term: Term, atom: int) -> Iterator[Dim]:
    """Yield the atoms that stand before `atom` in a product, outermost first."""
    if isinstance(term, Sum):
        for part in term.parts:
            yield from _enclosing(part, atom)
    elif isinstance(term, Product):
        before: list[Dim] = []
        for factor in term.factors:
            if any(inner.id == atom for inner in atoms(factor)):
                yield from before
                yield from _enclosing(factor, atom)
            if isinstance(factor, Dim):
                before.append(factor)


def _owns(axes: Axes, outer: int, atom: int) -> bool:
    """Whether every position of the atom in a tensor belongs to exactly one index of the outer atom."""
    for place, term in enumerate(axes):
        inner = coordinates(term, atom) >= 0
        if not inner.any():
            continue
        index = coordinates(term, outer)
        elsewhere = [t for i, t in enumerate(axes) if i != place and any(dim.id == outer for dim in atoms(t))]
        if (index < 0).all() and len(elsewhere) == 1:
            term, index = elsewhere[0], coordinates(elsewhere[0], outer)
        else:
            index = index[inner]
        if (index < 0).any() or _repeats_in_product(term, outer):
            return False
    return True


def _repeats_in_product(term: Term, atom: int) -> bool:
    if isinstance(term, Dim):
        return False
    if isinstance(term, Sum):
        return any(_repeats_in_product(part, atom) for part in term.parts)
    holding = [factor for factor in term.factors if any(inner.id == atom for inner in atoms(factor))]
    return len(holding) > 1 or any(_repeats_in_product(factor, atom) for factor in holding)


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    taken.add(candidate)
    return candidate
