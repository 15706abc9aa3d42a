"""The gradient of recurrent operators: backpropagation through time, for all directions, states and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.recurrent_cells import ACTIVATIONS, Activation, Cell, GruCell, LstmCell, RnnCell, State, Weights
from onnxmi.operators.vjp import Gradients, Vjp, VjpContext
from onnxmi.typing import Array, Bools, Ints

_CELLS: Mapping[str, tuple[type[Cell], tuple[str, ...]]] = {
    "RNN": (RnnCell, ("Tanh",)),
    "GRU": (GruCell, ("Sigmoid", "Tanh")),
    "LSTM": (LstmCell, ("Sigmoid", "Tanh", "Tanh")),
}
_DIRECTIONS: Mapping[str, tuple[bool, ...]] = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_X, _WEIGHTS, _RECURRENCE, _BIAS, _LENGTHS, _HIDDEN, _CELL, _PEEPHOLES = range(8)


@dataclass(frozen=True, eq=False)
class RecurrentGradients:
    """Gradients of one run of a recurrent operator.

    Attributes
    ----------
    inputs : (steps, samples, inputs) array
        Of what it reads; with the samples first where `layout` says so.
    states : tuple of array
        Of the initial states, in the operator's layout.
    gates : (directions, steps, samples, gates * hidden) array
        Of what the inputs add to the pre-activations.
    recurrent : (directions, steps, samples, gates * hidden) array
        Of the product of the state after each step with the recurrence matrix: zero for the last one, which no step
        reads.
    """

    inputs: Array
    states: tuple[Array, ...]
    gates: Array
    recurrent: Array


def recurrent_gradients(ctx: VjpContext) -> RecurrentGradients:
    """Run a recurrent operator again, and go back through it."""
    run = _Run(ctx)
    ways = [run.direction(number) for number in range(len(run.reversed))]
    inputs = sum(way.gates @ run.weights[number] for number, way in enumerate(ways))
    states = tuple(np.stack(parts) for parts in zip(*(way.states for way in ways), strict=True))
    gates, recurrent = np.stack([way.gates for way in ways]), np.stack([way.recurrent for way in ways])
    if ctx.get("layout", 0):
        inputs, states = np.swapaxes(inputs, 0, 1), tuple(np.swapaxes(state, 0, 1) for state in states)
    return RecurrentGradients(np.asarray(inputs), states, gates, recurrent)


@dataclass(frozen=True, eq=False)
class _Way:
    """Gradients along one direction, in the order of the sequence."""

    gates: Array
    recurrent: Array
    states: State


class _Run:
    """The operands of one run, with the sequence first."""

    def __init__(self, ctx: VjpContext) -> None:
        self.ctx = ctx
        self.reversed = _DIRECTIONS[ctx.get("direction", "forward")]
        self.weights = ctx.values(ctx.node.inputs[_WEIGHTS])
        self._recurrence = ctx.values(ctx.node.inputs[_RECURRENCE])
        self._x = self._steps_first(ctx.x)
        self._hidden = int(self._recurrence.shape[-1])
        lengths, (steps, samples) = ctx.operand(_LENGTHS), self._x.shape[:2]
        self._lengths = np.full(samples, steps) if lengths is None else np.asarray(lengths, dtype=np.int64)

    def direction(self, number: int) -> _Way:
        """Go forward and back along one direction."""
        cell, weights = _cell(self.ctx.node, number), self._weights(number)
        order = self._order(reverse=self.reversed[number])
        running = np.arange(len(self._x))[:, None] < self._lengths  # steps that a sample has
        gates = self._take(self._x, order) @ self.weights[number].T + self._input_bias(number)
        state, saved = self._initial(cell, number), []
        for step, active in zip(gates, running, strict=True):
            following, kept = cell.forward(weights, step, state)
            state = _where(active, following, state)
            saved.append(kept)
        return self._back(cell, weights, saved, running, order, number)

    def _back(
        self,
        cell: Cell,
        weights: Weights,
        saved: Sequence[tuple[Array, ...]],
        running: Bools,
        order: Ints,
        number: int,
    ) -> _Way:
        of_steps, upper = self._upper(cell, order, number)
        gates, recurrent = [], []
        for step in reversed(range(len(saved))):
            active = running[step]
            reached = (upper[0] + of_steps[step], *upper[1:])
            back = cell.backward(weights, saved[step], _where(active, reached, tuple(map(np.zeros_like, upper))))
            upper = _where(active, back.state, upper)
            gates.append(np.where(active[:, None], back.gates, 0))
            recurrent.append(np.where(active[:, None], back.recurrent, 0))
        # the product of the state after a step is read by the step that follows it
        after = [np.zeros_like(recurrent[0]), *recurrent[:-1]]
        return _Way(self._take(np.stack(gates[::-1]), order), self._take(np.stack(after[::-1]), order), upper)

    def _upper(self, cell: Cell, order: Ints, number: int) -> tuple[Array, State]:
        """Gradients of the states after all steps, and of the last states."""
        of_all, *of_last = (*self.ctx.output_gradients, None, None, None)[: 1 + cell.states]
        steps, samples = self._x.shape[:2]
        last = tuple(
            np.zeros((samples, self._hidden), self._x.dtype) if upper is None else self._of_states(upper)[number]
            for upper in of_last
        )
        if of_all is None:
            return np.zeros((steps, samples, self._hidden), self._x.dtype), last
        whole = np.moveaxis(of_all, 2, 0) if self.ctx.get("layout", 0) else np.swapaxes(of_all, 0, 1)
        return self._take(self._steps_first(whole[number]), order), last

    def _initial(self, cell: Cell, number: int) -> State:
        stored = [self.ctx.operand(place) for place in (_HIDDEN, _CELL)[: cell.states]]
        zero = np.zeros((self._x.shape[1], self._hidden), self._x.dtype)
        return tuple(zero if state is None else self._of_states(state)[number] for state in stored)

    def _weights(self, number: int) -> Weights:
        peepholes = self.ctx.operand(_PEEPHOLES)
        bias = self._biases(number)[1]
        return Weights(self._recurrence[number], bias, None if peepholes is None else peepholes[number])

    def _input_bias(self, number: int) -> Array:
        return self._biases(number)[0]

    def _biases(self, number: int) -> list[Array]:
        stored = self.ctx.operand(_BIAS)
        size = 2 * self._recurrence.shape[1]
        return np.split(np.zeros(size, self._x.dtype) if stored is None else stored[number], 2)

    def _order(self, *, reverse: bool) -> Ints:
        """(steps, samples) the place in the sequence that each step reads; its own inverse."""
        steps = np.arange(len(self._x))[:, None]
        turned = np.where(steps < self._lengths, self._lengths - 1 - steps, steps)
        return np.asarray(turned if reverse else np.broadcast_to(steps, turned.shape))

    def _take(self, values: Array, order: Ints) -> Array:
        return np.take_along_axis(values, order[:, :, None], axis=0)

    def _steps_first(self, values: Array) -> Array:
        return np.swapaxes(values, 0, 1) if self.ctx.get("layout", 0) else values

    def _of_states(self, states: Array) -> Array:
        return np.swapaxes(states, 0, 1) if self.ctx.get("layout", 0) else states


def _where(active: Bools, states: State, others: State) -> State:
    return tuple(np.where(active[:, None], one, other) for one, other in zip(states, others, strict=True))


def _cell(node: Node, number: int) -> Cell:
    made, _ = _CELLS[node.op]
    functions = _functions(node)
    own = functions[number * len(functions) // _directions(node) :][: len(functions) // _directions(node)]
    known: tuple[Activation, ...] = tuple(ACTIVATIONS[name] for name in own)
    if made is GruCell:
        return GruCell(known, resets_product=bool(node.attributes.get("linear_before_reset", 0)))
    return made(known)


def _directions(node: Node) -> int:
    return len(_DIRECTIONS[node.attributes.get("direction", "forward")])


def _functions(node: Node) -> tuple[str, ...]:
    """Names of the activation functions, for all directions."""
    listed: Sequence[Any] = node.attributes.get("activations") or _CELLS[node.op][1] * _directions(node)
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in listed)


def _supports(node: Node) -> bool:
    """Whether the activation functions are known, and nothing is clipped or coupled."""
    usual = not node.attributes.get("clip") and not node.attributes.get("input_forget", 0)
    complete = len(_functions(node)) == len(_CELLS[node.op][1]) * _directions(node)
    return usual and complete and ACTIVATIONS.keys() >= set(_functions(node))


def _vjp(ctx: VjpContext) -> Gradients:
    found = recurrent_gradients(ctx)
    gradients: list[Array | None] = [None] * (_HIDDEN + len(found.states))
    gradients[_X] = found.inputs
    gradients[_HIDDEN:] = found.states
    return gradients


RECURRENT_VJP = Vjp(_vjp, frozenset({_X, _HIDDEN}), _supports, all_outputs=True)
LSTM_VJP = replace(RECURRENT_VJP, operands=RECURRENT_VJP.operands | {_CELL})
