"""Recurrent cells in numpy: one step forward, and one step of the backward pass through time.

onnxruntime shows neither the gates nor the cell states, so the gradient runs the recurrence again. Everything is for
one direction, in the order in which it reads the sequence. `gates` is what the input adds to the pre-activations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from onnxmi.typing import Array

State = tuple[Array, ...]
"""The hidden state (samples, hidden), and for an LSTM the cell state."""


@dataclass(frozen=True)
class Activation:
    """An activation function, and its slope as a function of its result."""

    apply: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _sigmoid(x: Array) -> Array:
    """The logistic function, by tanh: exp of large numbers would overflow."""
    half: Array = 0.5 * np.tanh(0.5 * x) + 0.5
    return half


ACTIVATIONS: Mapping[str, Activation] = {
    "Sigmoid": Activation(_sigmoid, lambda y: y * (1 - y)),
    "Tanh": Activation(np.tanh, lambda y: 1 - y * y),
    "Relu": Activation(lambda x: np.maximum(x, 0), lambda y: (y > 0).astype(y.dtype)),
}


@dataclass(frozen=True, eq=False)
class Weights:
    """What one direction multiplies its state by.

    Attributes
    ----------
    recurrence : (gates * hidden, hidden) array
        The recurrence matrix R.
    bias : (gates * hidden,) array
        What is added to its product.
    peepholes : (3 * hidden,) array or None
        Of the input, output and forget gate.
    """

    recurrence: Array
    bias: Array
    peepholes: Array | None = None

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return int(self.recurrence.shape[1])


@dataclass(frozen=True, eq=False)
class StepGradients:
    """Gradients that one step hands back.

    Attributes
    ----------
    gates : (samples, gates * hidden) array
        Of what the input adds to the pre-activations.
    recurrent : (samples, gates * hidden) array
        Of the state's product with the recurrence matrix.
    state : State
        Of the state before the step.
    """

    gates: Array
    recurrent: Array
    state: State


@dataclass(frozen=True)
class Cell(ABC):
    """A recurrent cell with its activation functions.

    Attributes
    ----------
    functions : tuple of Activation
        As the operator's attribute lists them for one direction.
    """

    functions: tuple[Activation, ...]

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    @abstractmethod
    def forward(self, weights: Weights, gates: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """Run one step; return the next state, and what `backward` needs."""

    @abstractmethod
    def backward(self, weights: Weights, saved: tuple[Array, ...], upper: State) -> StepGradients:
        """Go back through one step from the gradient of the state after it."""


class RnnCell(Cell):
    """One activation of the sum."""

    gates = 1

    def forward(self, weights: Weights, gates: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """See `Cell.forward`."""
        hidden = self.functions[0].apply(gates + state[0] @ weights.recurrence.T + weights.bias)
        return (hidden,), (hidden,)

    def backward(self, weights: Weights, saved: tuple[Array, ...], upper: State) -> StepGradients:
        """See `Cell.backward`."""
        gates = upper[0] * self.functions[0].slope(saved[0])
        return StepGradients(gates, gates, (gates @ weights.recurrence,))


class LstmCell(Cell):
    """Input, output and forget gate, and the cell's candidate, in this order."""

    gates = 4
    states = 2

    def forward(self, weights: Weights, gates: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """See `Cell.forward`."""
        gate, candidate, squash = self.functions
        hidden, cell = state
        sums = np.split(gates + hidden @ weights.recurrence.T + weights.bias, 4, axis=1)
        of_input, of_output, of_forget = self._peepholes(weights)
        entering, forgetting = gate.apply(sums[0] + of_input * cell), gate.apply(sums[2] + of_forget * cell)
        fresh = candidate.apply(sums[3])
        following = forgetting * cell + entering * fresh
        leaving, squashed = gate.apply(sums[1] + of_output * following), squash.apply(following)
        return (leaving * squashed, following), (entering, leaving, forgetting, fresh, squashed, cell)

    def backward(self, weights: Weights, saved: tuple[Array, ...], upper: State) -> StepGradients:
        """See `Cell.backward`."""
        gate, candidate, squash = self.functions
        entering, leaving, forgetting, fresh, squashed, cell = saved
        of_input, of_output, of_forget = self._peepholes(weights)
        to_output = upper[0] * squashed * gate.slope(leaving)
        of_cell = upper[1] + upper[0] * leaving * squash.slope(squashed) + to_output * of_output
        to_input = of_cell * fresh * gate.slope(entering)
        to_forget = of_cell * cell * gate.slope(forgetting)
        to_candidate = of_cell * entering * candidate.slope(fresh)
        gates = np.concatenate([to_input, to_output, to_forget, to_candidate], axis=1)
        before = of_cell * forgetting + to_input * of_input + to_forget * of_forget
        return StepGradients(gates, gates, (gates @ weights.recurrence, before))

    def _peepholes(self, weights: Weights) -> list[Array]:
        stored = weights.peepholes
        return np.split(np.zeros(3 * weights.hidden, weights.bias.dtype) if stored is None else stored, 3)


@dataclass(frozen=True)
class GruCell(Cell):
    """Update and reset gate, and the candidate, in this order.

    Attributes
    ----------
    resets_product : bool
        Whether the reset gate scales the candidate's product with the state, instead of the state before it.
    """

    resets_product: bool = field(default=False, kw_only=True)

    gates = 3

    def forward(self, weights: Weights, gates: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """See `Cell.forward`."""
        gate, candidate = self.functions
        (hidden,), size = state, weights.hidden
        both, last = weights.recurrence[: 2 * size], weights.recurrence[2 * size :]
        sums = gates[:, : 2 * size] + hidden @ both.T + weights.bias[: 2 * size]
        update, reset = np.split(gate.apply(sums), 2, axis=1)
        if self.resets_product:
            product = hidden @ last.T + weights.bias[2 * size :]
            fresh = candidate.apply(gates[:, 2 * size :] + reset * product)
        else:
            product = reset * hidden
            fresh = candidate.apply(gates[:, 2 * size :] + product @ last.T + weights.bias[2 * size :])
        return ((1 - update) * fresh + update * hidden,), (update, reset, fresh, product, hidden)

    def backward(self, weights: Weights, saved: tuple[Array, ...], upper: State) -> StepGradients:
        """See `Cell.backward`."""
        gate, candidate = self.functions
        update, reset, fresh, product, hidden = saved
        size = weights.hidden
        both, last = weights.recurrence[: 2 * size], weights.recurrence[2 * size :]
        to_candidate = upper[0] * (1 - update) * candidate.slope(fresh)
        before = upper[0] * update
        if self.resets_product:
            of_product, of_reset = to_candidate * reset, to_candidate * product
            before = before + of_product @ last
        else:
            of_product, scaled = to_candidate, to_candidate @ last
            of_reset, before = scaled * hidden, before + scaled * reset
        to_update, to_reset = upper[0] * (hidden - fresh) * gate.slope(update), of_reset * gate.slope(reset)
        pair = np.concatenate([to_update, to_reset], axis=1)
        gates, recurrent = (np.concatenate([pair, third], axis=1) for third in (to_candidate, of_product))
        return StepGradients(gates, recurrent, (before + pair @ both,))
