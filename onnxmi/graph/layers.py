"""Reading the layers off the solved terms: which atoms can be cut, what each is called, and what it is ragged over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnxmi.axes.terms import AtomId, Axes, Dim, atoms, enclosing, owns, repeats_in_product
from onnxmi.axes.unify import Solver
from onnxmi.graph.channel_graph import Contraction, Frozen, Layer, LayerId, Use
from onnxmi.model import Graph
from onnxmi.operators.registry import operator_of

_SHAPE_TYPES = frozenset({"int32", "int64", "uint32", "uint64", "bool"})  # positions and sizes; weights may be 8 bits


@dataclass
class LayerReader:
    """Picks the layers out of all atoms: carried by a stored tensor, contracted over, and not frozen."""

    graph: Graph
    solver: Solver
    axes: Mapping[str, Axes]
    uses: Mapping[Use, Axes]
    contractions: tuple[Contraction, ...]

    def read(self) -> tuple[tuple[Layer, ...], tuple[Frozen, ...]]:
        """Return the layers, in topological order of their makers, and what would be one but is frozen."""
        makers, users, neighbours = self._makers(), self._users(), self._neighbours()
        solver, names = self.solver, set[str]()
        layers: list[Layer] = []
        stuck: list[tuple[AtomId, str]] = []
        for atom in sorted(self._carried() & set(users), key=lambda a: (makers.get(a, users[a]), a)):
            reason = solver.marks(atom).get("frozen") or self._self_product(atom, neighbours)
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
        return _flattened(layers), tuple(frozen)

    def _layer(
        self, atom: AtomId, makers: tuple[int, ...], users: tuple[int, ...], outer: Dim | None, names: set[str]
    ) -> Layer:
        kind = self._kind(atom, makers, users)
        return Layer(
            id=LayerId(atom),
            name=self._name(makers or users, kind, names),
            size=self.solver.size(atom),
            kind=kind,
            grade="renormalising" if "renormalising" in self.solver.marks(atom) else "exact",
            makers=makers,
            users=users,
            outer_atom=None if outer is None else outer.id,
            parts=1 if outer is None else outer.size,
        )

    def _name(self, nodes: tuple[int, ...], kind: str, taken: set[str]) -> str:
        """Name a layer after the first node that makes it; several of one node are told apart by their kind."""
        name = self.graph.nodes[nodes[0]].label
        return _unique(f"{name}:{kind}" if name in taken else name, taken)

    def _carried(self) -> set[AtomId]:
        """Atoms on an axis of a stored tensor of numbers (shape arithmetic does not count)."""
        graph, found = self.graph, set[AtomId]()
        for name, terms in self._stored():
            if graph.constant_dtype(name).name not in _SHAPE_TYPES:
                found.update(atom.id for term in terms for atom in atoms(term))
        for node in graph.nodes:  # weights that are all alike are not stored but made
            if operator_of(node).fills and node.outputs[0] in graph.folded:
                found.update(atom.id for term in self.axes.get(node.outputs[0], ()) for atom in atoms(term))
        return found

    def _stored(self) -> Iterator[tuple[str, Axes]]:
        graph = self.graph
        for name in graph.constants:
            if name in self.axes:
                yield name, self.axes[name]
        for (node, operand), terms in self.uses.items():
            yield graph.nodes[node].inputs[operand], terms

    def _users(self) -> dict[AtomId, tuple[int, ...]]:
        """Atom -> nodes that contract over it."""
        found: dict[AtomId, set[int]] = defaultdict(set)
        for contraction in self.contractions:
            for atom in atoms(contraction.term):
                found[atom.id].add(contraction.node)
        return {atom: tuple(sorted(nodes)) for atom, nodes in found.items()}

    def _makers(self) -> dict[AtomId, tuple[int, ...]]:
        """Atom -> nodes that contract over other atoms and have it on an output axis: they make its channels.

        What an operator contracts on a stored operand, such as its own recurrence, it may well have made.
        """
        graph, found = self.graph, defaultdict[AtomId, set[int]](set)
        contracted: dict[int, set[AtomId]] = defaultdict(set)
        for contraction in self.contractions:
            if not graph.is_constant(graph.nodes[contraction.node].inputs[contraction.operand]):
                contracted[contraction.node].update(atom.id for atom in atoms(contraction.term))
        for node, inner in contracted.items():
            for term in self.axes.get(graph.nodes[node].result, ()):
                for atom in atoms(term):
                    if atom.id not in inner:
                        found[atom.id].add(node)
        return {atom: tuple(sorted(nodes)) for atom, nodes in found.items()}

    def _neighbours(self) -> dict[AtomId, list[Axes]]:
        """Atom -> the terms of every tensor (reading) that carries it."""
        found: dict[AtomId, list[Axes]] = defaultdict(list)
        for terms in [*self.axes.values(), *self.uses.values()]:
            for atom in {atom.id for term in terms for atom in atoms(term)}:
                found[atom].append(terms)
        return found

    def _outer(self, atom: AtomId, neighbours: Mapping[AtomId, list[Axes]]) -> Dim | None:
        """The atom that a layer is ragged over: it owns the layer in every tensor.

        It encloses the layer in some, or lies on an axis of its own in all (experts). It stands inside the layer in
        none: there the kept units would have to be in two orders at once.
        """
        tensors = neighbours[atom]
        outers = list(dict.fromkeys(outer for terms in tensors for term in terms for outer in enclosing(term, atom)))
        for outer in reversed(outers or _everywhere(tensors, atom)):
            inside = any(dim.id == atom for terms in tensors for term in terms for dim in enclosing(term, outer.id))
            if outer.size > 1 and not inside and all(owns(terms, outer.id, atom) for terms in tensors):
                return outer
        return None

    def _self_product(self, atom: AtomId, neighbours: Mapping[AtomId, list[Axes]]) -> str | None:
        """An atom that stands twice in one product has no index of its own."""
        if any(repeats_in_product(term, atom) for terms in neighbours[atom] for term in terms):
            return "it is multiplied with itself on one axis"
        return None

    def _kind(self, atom: AtomId, makers: tuple[int, ...], users: tuple[int, ...]) -> str:
        """Say what a layer is in the field's words, by what contracts over it and what carries it."""
        solver, nodes = self.solver, self.graph.nodes
        if "kind" in solver.marks(atom):
            return solver.marks(atom)["kind"]
        multiplied = all(node in self._bilinear for node in users)  # with another activation, and nothing else
        convolved = any(operator_of(nodes[n]).convolves for n in (*makers, *users))
        if multiplied:
            return "qk"
        if any(node in self._bilinear and self._on_both_operands(node, atom) for node in makers):
            return "heads"
        if "renormalising" in solver.marks(atom):
            return "channels" if convolved and not any(operator_of(nodes[n]).per_position for n in users) else "width"
        if convolved:
            return "channels"
        if any(node in self._bilinear for node in users):
            return "qk"
        if any(node in self._bilinear for node in makers):
            return "value"
        if not makers and atom in self._looked_up:
            return "embedding"
        return "ffn" if any(self._makes_width(node) for node in users) else "hidden"

    @cached_property
    def _bilinear(self) -> frozenset[int]:
        """Nodes that contract an activation with an activation."""
        operands: dict[int, set[int]] = defaultdict(set)
        for contraction in self.contractions:
            if self.graph.nodes[contraction.node].inputs[contraction.operand] not in self.graph.folded:
                operands[contraction.node].add(contraction.operand)
        return frozenset(node for node, found in operands.items() if len(found) > 1)

    def _on_both_operands(self, node: int, atom: AtomId) -> bool:
        inputs = self.graph.nodes[node].inputs[:2]
        return all(atom in {a.id for term in self.axes.get(name, ()) for a in atoms(term)} for name in inputs)

    @cached_property
    def _looked_up(self) -> frozenset[AtomId]:
        """Atoms that rows of stored tables have."""
        tables = {node.inputs[0] for node in self.graph.nodes if operator_of(node).gathers} & self.graph.folded
        return frozenset(a.id for name in tables for term in self.axes.get(name, ()) for a in atoms(term))

    def _makes_width(self, node: int) -> bool:
        made = self.axes.get(self.graph.nodes[node].outputs[0], ())
        marks = [self.solver.marks(a.id) for term in made for a in atoms(term)]
        return any("renormalising" in found for found in marks)


def _everywhere(tensors: list[Axes], atom: AtomId) -> list[Dim]:
    """Atoms that lie in every tensor that an atom lies in."""
    held = [{other for term in terms for other in atoms(term) if other.id != atom} for terms in tensors]
    return sorted(set.intersection(*held), key=lambda other: other.id) if held else []


def _flattened(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Let only one of two nested layers be ragged: kept units that depend on kept units have no simple indices."""
    ragged = {layer.id for layer in layers if layer.outer_atom is not None}
    return tuple(replace(layer, outer_atom=None, parts=1) if layer.outer_atom in ragged else layer for layer in layers)


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    taken.add(candidate)
    return candidate
