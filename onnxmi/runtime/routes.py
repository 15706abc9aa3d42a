"""The branches that each batch takes on its way through a model, and steps through the model without those it does not.

A branch runs as a whole. In the place of its If, its nodes can be stepped through like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxmi.model import Graph, Model
from onnxmi.model.conditions import Conditions
from onnxmi.model.inline_branches import inline_branches
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.stepper import Stepper
from onnxmi.typing import Array

Route = tuple[tuple[str, bool], ...]
"""First result of each If that is reached, outside of loops, with the value of its condition."""


@dataclass(frozen=True)
class Routes:
    """Which branches some batches take.

    Attributes
    ----------
    all : tuple of Route
        The routes that differ.
    of_batch : tuple of int
        The number of each batch's route.
    """

    all: tuple[Route, ...]
    of_batch: tuple[int, ...]

    @staticmethod
    def of(model: Model, batches: Sequence[Feeds], threads: int = 0) -> Routes:
        """Run the batches; a model without branches outside of loops is not run."""
        conditions = _conditions(model.graph)
        if not conditions:
            return Routes(((),), (0,) * len(batches))
        shown = [name for name in dict.fromkeys(conditions.values()) if name in model.graph.producers]
        session = open_session(model.proto, taps=shown, threads=threads)
        numbers: dict[Route, int] = {}
        of_batch: list[int] = []
        for feeds in batches:
            values = {**feeds, **session.run(feeds)}
            route = tuple((name, bool(np.any(values[one]))) for name, one in conditions.items() if one in values)
            of_batch.append(numbers.setdefault(route, len(numbers)))
        return Routes(tuple(numbers), tuple(of_batch))

    def steps(
        self, proto: onnx.ModelProto, batches: Sequence[Feeds], step: Callable[[onnx.ModelProto, list[Feeds]], Stepper]
    ) -> RoutedStepper:
        """Step through a model with the names of the one that was run."""
        own: list[list[Feeds]] = [[] for _ in self.all]
        for number, feeds in zip(self.of_batch, batches, strict=True):
            own[number].append(feeds)
        return RoutedStepper([step(_along(proto, route), one) for route, one in zip(self.all, own, strict=True)], self)


class RoutedStepper:
    """Steps through a model for batches that take different branches; see `Stepper`.

    Tensors of branches that a batch does not take are absent from what is yielded for it.
    """

    def __init__(self, steppers: Sequence[Stepper], routes: Routes) -> None:
        self._steppers, self._of_batch = tuple(steppers), routes.of_batch

    def reach(self, result: str) -> Iterator[bool]:
        """Yield, for every batch, whether it takes the branch in which a node makes this."""
        own = [stepper.pieces.makes(result) for stepper in self._steppers]
        return (own[number] for number in self._of_batch)

    def to(self, tensors: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """See `Stepper.to`."""
        return self._in_order([stepper.to(tensors) for stepper in self._steppers])

    def inside(self, tensors: Sequence[str]) -> Iterator[Mapping[str, Array]]:
        """See `Stepper.inside`."""
        return self._in_order([stepper.inside(tensors) for stepper in self._steppers])

    def amend(self, tensor: str, scale: Array, shift: Array) -> None:
        """See `Stepper.amend`."""
        for stepper in self._steppers:
            stepper.amend(tensor, scale, shift)

    def set_weight(self, name: str, value: Array) -> None:
        """See `PartialModel.set_weight`."""
        for stepper in self._steppers:
            stepper.pieces.set_weight(name, value)

    def weight(self, name: str) -> Array:
        """See `PartialModel.weight`."""
        return self._steppers[0].pieces.weight(name)

    def result_operand(self, result: str, operand: int) -> str:
        """See `PartialModel.result_operand`."""
        own = next(stepper for stepper in self._steppers if stepper.pieces.makes(result))
        return own.pieces.result_operand(result, operand)

    def _in_order(self, own: Sequence[Iterator[Mapping[str, Array]]]) -> Iterator[Mapping[str, Array]]:
        for number in self._of_batch:
            yield next(own[number])
        for one in own:  # each holds what is live of its last batch when it is asked for the next one
            assert next(one, None) is None


def _conditions(graph: Graph) -> dict[str, str]:
    """First result of each If outside of loops -> its condition."""
    branching = (node for node in graph.nodes if node.op == "If" and node.bodies and not node.loops)
    return {node.outputs[0]: node.inputs[0] for node in branching}


def _along(proto: onnx.ModelProto, route: Route) -> onnx.ModelProto:
    if not route:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    while inline_branches(made.graph, Conditions(made, dict(route))):
        pass
    return made
