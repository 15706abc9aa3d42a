"""Reverse differentiation of a graph: gradients of inner tensors from the gradients of the outputs.

There is no training here, and no gradient of a weight: the question is how sensitive outputs are to inner changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from onnxmi.errors import stage
from onnxmi.model import Body, Graph, Node
from onnxmi.model.taps import Seen
from onnxmi.operators.registry import operator_of
from onnxmi.operators.vjp import NoGradientError, Vjp, VjpContext
from onnxmi.typing import Array

Result = TypeVar("Result")
_LOOPS = ("Loop", "Scan")


@dataclass(frozen=True)
class Backward:
    """The way back from a graph's outputs to inner tensors.

    Attributes
    ----------
    graph : Graph
        The model's graph.
    wanted : frozenset of str
        Tensors whose gradients are asked for.
    targets : tuple of str
        Tensors to go back from; the graph's outputs where none are named.
    unseen : frozenset of str
        Tensors that no session can show: there is no way back through what makes them.
    """

    graph: Graph
    wanted: frozenset[str]
    targets: tuple[str, ...] = ()
    unseen: frozenset[str] = frozenset()

    @cached_property
    def reached(self) -> frozenset[str]:
        """The wanted tensors whose gradients are complete: every path from them to an output is known."""
        return self.wanted - self._lost

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Tensors whose values are needed on the backward pass."""
        path = [self.graph.nodes[index] for index in sorted(self._path)]
        given = (name for node in path for body in node.bodies for name in (*body.inputs, *body.outputs))
        names = (*(name for node in path for name in (*node.inputs, *node.outputs)), *given)
        shown = (name for name in names if name and name not in self.unseen)
        return tuple(dict.fromkeys(name for name in shown if not self.graph.is_constant(name)))

    @cached_property
    def _active(self) -> frozenset[str]:
        """Tensors that depend on a wanted one."""

        def forward(active: set[str]) -> None:
            for node in self.graph.nodes:
                if not node.bodies and active.intersection(node.reads):
                    active.update(_smooth(node))
                active.update(end for start, end in _flows(node) if start in active)

        return _closed(set(self.wanted), forward)

    @cached_property
    def _useful(self) -> frozenset[str]:
        """Tensors that a target depends on in a way that gradients flow through."""

        def back(useful: set[str]) -> None:
            for node in reversed(self.graph.nodes):
                useful.update(start for start, end in _flows(node) if end in useful)
                if not node.bodies and useful.intersection(_smooth(node)):
                    useful.update(node.reads)

        return _closed(set(self.targets or (info.name for info in self.graph.outputs)), back)

    @cached_property
    def _path(self) -> frozenset[int]:
        """Nodes between the wanted tensors and the outputs."""
        return frozenset(node.index for node in self.graph.nodes if self._between(node) and not self._objects(node))

    @cached_property
    def _lost(self) -> frozenset[str]:
        """Tensors whose gradients lack what an unknown operator would hand back."""

        def back(lost: set[str]) -> None:
            for node in reversed(self.graph.nodes):
                lost.update(start for start, end in _flows(node) if end in lost)
                follows = not node.bodies and lost.intersection(node.outputs)
                if self._between(node) and (follows or self._objects(node)):
                    lost.update(node.reads)

        return _closed(set(), back)

    def _between(self, node: Node) -> bool:
        read = self._active.intersection(node.outputs if node.bodies else node.reads)
        return bool(self._useful.intersection(_smooth(node)) and read)

    def _is_seen(self, node: Node) -> bool:
        """Whether all that bodies compute can be shown."""
        inside = [self.graph.nodes[index] for body in node.bodies for index in body.nodes]
        return all(self.unseen.isdisjoint(one.outputs) and self._is_seen(one) for one in inside)

    def _objects(self, node: Node) -> bool:
        """Whether the backward pass through a node is unknown."""
        if node.bodies:
            return node.op in _LOOPS and not (_can_unroll(self.graph, node) and self._is_seen(node))
        vjp = vjp_of(node)
        if vjp is None or node.captures:
            return True
        operands = {place for place, name in enumerate(node.inputs) if name in self._active}
        # A rule for the first output alone would lose what flows through the others.
        asides = () if vjp.all_outputs else set(_smooth(node)) - {node.outputs[0]}
        return not operands <= vjp.operands or bool(self._useful.intersection(asides))

    def __call__(
        self, values: Mapping[str, Array], upper: Mapping[str, Array], iterations: Mapping[str, Seen] | None = None
    ) -> dict[str, Array]:
        """Go back once.

        Parameters
        ----------
        values : mapping
            What the tensors in `reads` held.
        upper : mapping
            Gradients of the targets.
        iterations : mapping
            What those inside loops held, in all iterations.

        Returns
        -------
        dict
            Gradients of the tensors in `reached`, float32, of their shapes. One that no output depends on is absent.

        Raises
        ------
        NoGradientError
            If a node turned out to do what its rule does not know.
        """
        by_tensor: dict[str, Array] = {name: gradient for name, gradient in upper.items() if name in self._active}
        self._back(self.graph.main, _Values(values, iterations or {}), by_tensor)
        return {name: gradient for name, gradient in by_tensor.items() if name in self.reached}

    def _back(self, nodes: Sequence[Node], values: _Values, by_tensor: dict[str, Array]) -> None:
        """Go back through the nodes of one graph."""
        for node in reversed(nodes):
            if node.index not in self._path or not any(name in by_tensor for name in node.outputs if name):
                continue
            if node.op in _LOOPS:
                self._through_loop(node, values, by_tensor)
            elif node.bodies:
                self._through_branch(node, values, by_tensor)
            else:
                self._through(node, values, by_tensor)
            # A gradient is complete when all its readers have been passed, and is freed after its maker.
            for name in node.outputs:
                if name not in self.wanted:
                    by_tensor.pop(name, None)

    def _through(self, node: Node, values: _Values, by_tensor: dict[str, Array]) -> None:
        ctx = self.context(node, values.at, by_tensor)
        vjp = vjp_of(node)
        assert vjp is not None
        lower = apply_rule(vjp.rule, ctx)
        for place in sorted(ctx.requested):
            _add(by_tensor, node.inputs[place], lower[place])

    def _through_branch(self, node: Node, values: _Values, by_tensor: dict[str, Array]) -> None:
        """The results are those of the branch that was taken."""
        taken = "then_branch" if np.any(self._value(node.inputs[0], values.at)) else "else_branch"
        body = next(body for body in node.bodies if body.attribute == taken)
        for outer, inner in zip(node.outputs, body.outputs, strict=False):
            _add(by_tensor, inner, by_tensor.get(outer))
        self._back([self.graph.nodes[index] for index in body.nodes], values, by_tensor)

    def _through_loop(self, node: Node, values: _Values, by_tensor: dict[str, Array]) -> None:
        """Go back from the last iteration to the first."""
        loop = _Loop.of(node, values)
        nodes = [self.graph.nodes[index] for index in loop.body.nodes]
        state = {inner: by_tensor[outer] for outer, inner in loop.states_out if outer in by_tensor}
        inside: dict[str, dict[int, Array]] = {}
        for number in reversed(range(loop.count)):
            own = loop.upper(state, by_tensor, number)
            self._back(nodes, values.iteration(number), own)
            state = {after: own[before] for before, after in loop.carried if before in own}
            for name, gradient in own.items():
                if name in values.iterations:
                    inside.setdefault(name, {})[number] = gradient
                else:
                    _add(by_tensor, name, gradient)
        for outer, after in loop.states_in:
            _add(by_tensor, outer, state.get(after))
        stacked = {name: values.stacked(name, parts) for name, parts in inside.items()}
        by_tensor.update(
            (name, replace(values.iterations[name], value=one).by_sample)
            for name, one in stacked.items()
            if name in self.wanted
        )
        for outer, inner, axis in loop.read_in_slices:
            if inner in stacked:
                each = stacked[inner][::-1] if inner in loop.turned else stacked[inner]
                _add(by_tensor, outer, np.moveaxis(each, 0, axis))

    def _value(self, name: str, look: Callable[[str], Array]) -> Array:
        return self.graph.constant(name) if self.graph.is_constant(name) else look(name)

    def context(self, node: Node, look: Callable[[str], Array], gradients: Mapping[str, Array]) -> VjpContext:
        """What a rule of a node works on: the values of tensors, and the gradients of the node's outputs."""

        def value(name: str) -> Array:
            array = self._value(name, look)
            # float16 and bfloat16 gradients would underflow where many factors are small.
            return array.astype(np.float32) if array.dtype.kind in "fV" and array.dtype != np.float64 else array

        requested = frozenset(place for place, name in enumerate(node.inputs) if name in self._active)
        upper = tuple(gradients.get(name) for name in node.outputs)
        return VjpContext(node, value, upper, requested, self.graph.opset)


@dataclass(frozen=True)
class _Values:
    """What tensors held: all of it, or in one iteration of a loop."""

    whole: Mapping[str, Array]
    iterations: Mapping[str, Seen]
    number: int | None = None

    def at(self, name: str) -> Array:
        """Return the value of a tensor."""
        inside = self.number is not None and name in self.iterations
        value: Array = self.iterations[name].value[self.number] if inside else self.whole[name]
        return value

    def iteration(self, number: int) -> _Values:
        """Return the values in one iteration."""
        return replace(self, number=number)

    def stacked(self, name: str, gradients: Mapping[int, Array]) -> Array:
        """Stack the gradients of all iterations of a tensor; those that are absent are zero."""
        each = self.iterations[name].value
        zero = np.zeros(each.shape[1:], np.float32)
        return np.stack([gradients.get(number, zero) for number in range(len(each))])


@dataclass(frozen=True, eq=False)
class _Loop:
    """A Loop or a Scan.

    Attributes
    ----------
    body : Body
        Its body.
    count : int
        How many iterations were run.
    states_in : tuple of (str, str)
        What each state is before the first iteration, and what the body gives as the next one.
    states_out : tuple of (str, str)
        What each state is called afterwards, and in the body.
    carried : tuple of (str, str)
        What the body is given of each state, and what it gives.
    read_in_slices, stacked : tuple of (str, str, int)
        Names outside and inside, and the axis of the iterations.
    turned : frozenset of str
        Which of these run from the last iteration to the first: names inside of what is read, outside of what is given.
    """

    body: Body
    count: int
    states_in: tuple[tuple[str, str], ...]
    states_out: tuple[tuple[str, str], ...]
    carried: tuple[tuple[str, str], ...]
    read_in_slices: tuple[tuple[str, str, int], ...]
    stacked: tuple[tuple[str, str, int], ...]
    turned: frozenset[str]

    @staticmethod
    def of(node: Node, values: _Values) -> _Loop:
        """Sort what the links of a body say."""
        (body,) = node.bodies
        given = [one for one in body.links if one.inner in body.inputs and one.outer not in body.inputs]
        carried = {one.outer: one.inner for one in body.links if one.outer in body.inputs}
        left = [one for one in body.links if one.inner in body.outputs and one.outer not in body.inputs]
        seen = [
            len(values.iterations[name].value) for name in (*body.inputs, *body.outputs) if name in values.iterations
        ]
        return _Loop(
            body=body,
            count=min(seen, default=0),
            states_in=tuple((one.outer, carried[one.inner]) for one in given if one.axis is None),
            states_out=tuple((one.outer, one.inner) for one in left if one.axis is None),
            carried=tuple(carried.items()),
            read_in_slices=tuple((one.outer, one.inner, one.axis) for one in given if one.axis is not None),
            stacked=tuple((one.outer, one.inner, one.axis) for one in left if one.axis is not None),
            turned=_turned(node, body),
        )

    def upper(self, state: Mapping[str, Array], by_tensor: Mapping[str, Array], number: int) -> dict[str, Array]:
        """Gradients of what the body gives in one iteration, by that of the state after it and of what is stacked."""
        own = dict(state)
        for outer, inner, axis in self.stacked:
            place = self.count - 1 - number if outer in self.turned else number
            _add(own, inner, np.take(by_tensor[outer], place, axis=axis) if outer in by_tensor else None)
        return own


def _turned(node: Node, body: Body) -> frozenset[str]:
    """See `_Loop.turned`; only a Scan reads or gives anything backwards."""
    states = len(body.inputs) - int(node.attributes.get("num_scan_inputs", 0))
    ways = (("input", body.inputs[states:]), ("output", node.outputs[states:]))
    return frozenset(
        name
        for way, names in ways
        for name, backwards in zip(names, node.attributes.get(f"scan_{way}_directions", ()), strict=False)
        if backwards
    )


def _flows(node: Node) -> Iterator[tuple[str, str]]:
    """Where values go into the bodies of a node, out of them, and from one iteration to the next."""
    for body in node.bodies:
        yield from body.flows


def _closed(names: set[str], go: Callable[[set[str]], None]) -> frozenset[str]:
    """Add what follows until nothing does: what a loop gives, it may be given again."""
    size = -1
    while size != len(names):
        size = len(names)
        go(names)
    return frozenset(names)


def _can_unroll(graph: Graph, node: Node) -> bool:
    """Whether the iterations of a loop can be gone back through: it holds no other loop."""
    return not any(_holds_a_loop(graph, body) for body in node.bodies)


def _holds_a_loop(graph: Graph, body: Body) -> bool:
    nodes = [graph.nodes[index] for index in body.nodes]
    return any(node.op in _LOOPS or any(_holds_a_loop(graph, inner) for inner in node.bodies) for node in nodes)


def _add(by_tensor: dict[str, Array], name: str, gradient: Array | None) -> None:
    """Add a path: a tensor that several nodes read gets a gradient from each."""
    if gradient is not None:
        by_tensor[name] = by_tensor[name] + gradient if name in by_tensor else gradient


def apply_rule(rule: Callable[[VjpContext], Result], ctx: VjpContext) -> Result:
    """Apply a rule. What it stumbles over is nothing that the model should be refused for.

    Raises
    ------
    NoGradientError
        If it stumbles.
    """
    try:
        with (
            stage("backward pass", ctx.node.label),
            np.errstate(all="ignore"),
        ):  # what is not finite is left out by who asks
            return rule(ctx)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise NoGradientError(f"{ctx.node.label}: {error}") from error


def vjp_of(node: Node) -> Vjp | None:
    """Return the gradient of a node's operator; None where it, or one of its settings, is not known."""
    vjp = operator_of(node).vjp
    return vjp if vjp is not None and vjp.supports(node) else None


def _smooth(node: Node) -> tuple[str, ...]:
    """Outputs that change by little where what they are made of does."""
    steps = operator_of(node).piecewise_constant
    return tuple(name for i, name in enumerate(node.outputs) if name and not steps(node, i))
