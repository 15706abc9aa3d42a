"""Taps on inner tensors: a model that gives them as outputs, also from inside the bodies of If, Loop and Scan.

onnxruntime shows no tensor inside a body, but a body can be given more outputs: the iterations of a Loop or Scan are
stacked on a first axis, and a branch of an If that is not taken gives nothing, which a marker beside it says. A branch
inside a loop is computed in every iteration (see `onnxmi.model.hoisted_branches`); its conditions are tapped, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxmi.model.bodies import bodies_of, is_normal, nested_nodes
from onnxmi.model.hoisted_branches import hoist_branches
from onnxmi.typing import Array, Bools

_GIVES_NO_TENSOR = frozenset(
    {"Optional", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap"}
    | {"SplitToSequence"}
)


@dataclass(frozen=True)
class Tap:
    """One tensor that is tapped.

    Attributes
    ----------
    name : str
        The tensor.
    output : str
        The model's output that shows it.
    loops : int
        How many leading axes of it are iterations.
    marker : str or None
        The output that is not zero where the tensor was computed; None where it always is.
    conditions : tuple of (str, bool)
        Outputs with the conditions of branches inside loops, iterations first, and their values where they are taken.
    """

    name: str
    output: str
    loops: int = 0
    marker: str | None = None
    conditions: tuple[tuple[str, bool], ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The model's outputs that are needed to show it."""
        return tuple(filter(None, (self.output, self.marker, *(name for name, _ in self.conditions))))

    def seen(self, results: Mapping[str, Any]) -> Seen:
        """Return what the model's outputs show."""
        value = results[self.output]
        if not self.conditions:
            return Seen(value, self.loops)
        taken = np.ones(value.shape[: self.loops], dtype=bool)
        for name, expected in self.conditions:
            held = np.asarray(results[name], dtype=bool)
            inner = (1,) * (self.loops - held.ndim)  # iterations of loops inside the branch
            held = held.reshape(held.shape[: self.loops] + inner)
            taken &= held == expected
        return Seen(value, self.loops, taken)

    def computed(self, results: Mapping[str, Any]) -> bool:
        """Whether the tensor was computed, by what the model gave."""
        return self.marker is None or bool(np.any(results[self.marker]))


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tap showed.

    Attributes
    ----------
    value : array, or what a sequence or a map is
        The tensor, iterations first.
    loops : int
        How many leading axes of it are iterations.
    taken : array of bool, or None
        Which iterations took the branch that it is in; None where it is in none.
    """

    value: Any
    loops: int = 0
    taken: Bools | None = None

    @property
    def counts(self) -> bool:
        """Whether any iteration took the branch that it is in."""
        return self.taken is None or bool(self.taken.any())

    @property
    def is_array(self) -> bool:
        """Whether it is a tensor; one inside a loop that no iteration was run of is not known."""
        return isinstance(self.value, np.ndarray) and (not self.loops or self.value.shape[0] > 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's own shape, in one iteration."""
        return tuple(self.value.shape[self.loops :])

    @property
    def by_sample(self) -> Any:
        """The tensor with iterations on its first axis, which mostly is that of the samples.

        Those of each index of that axis lie side by side: rows stay sample by sample. Iterations that took another
        branch are left out.
        """
        if not self.loops:
            return self.value
        flat = self._iterations
        if self.taken is not None:
            flat = flat[self.taken.reshape(-1)]
        return flat if flat.ndim == 1 else np.swapaxes(flat, 0, 1).reshape(flat.shape[1] * len(flat), *flat.shape[2:])

    @property
    def in_all_iterations(self) -> Array | None:
        """The tensor, if it is the same in all iterations."""
        each: Array = self._iterations if self.loops else self.value[None]
        first: Array = each[0]
        return first if bool((each == first).all()) else None

    @property
    def _iterations(self) -> Array:
        flat: Array = self.value.reshape(prod(self.value.shape[: self.loops]), *self.shape)
        return flat


def with_taps(proto: onnx.ModelProto, names: Sequence[str]) -> tuple[onnx.ModelProto, tuple[Tap, ...]]:
    """Return a copy of a model that gives the named tensors alone, and where each is to be found.

    Tensors that cannot be shown are absent: those of a branch or a Scan whose type or rank is not known, and what is
    inside a body and no tensor.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {value.name: value for value in proto.graph.output}
    del copy.graph.output[:]
    places = _Places(copy.graph, names) if is_normal(proto) else None
    taps = tuple(tap for name in names if (tap := places.tap(name) if places else Tap(name, name)) is not None)
    shown = dict.fromkeys(output for tap in taps for output in tap.outputs)
    copy.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in shown)
    return copy, taps


def untapped_types(graph: onnx.GraphProto) -> frozenset[str]:
    """Return what is inside bodies and no tensor: sequences and optionals, of which no loop makes a stack."""
    names: set[str] = set()
    for node in nested_nodes(graph):
        if node.op_type in _GIVES_NO_TENSOR:
            names.update(node.output)
        for _, body in bodies_of(node):
            values = (*body.input, *body.value_info, *body.output)
            names.update(value.name for value in values if value.type.WhichOneof("value") not in (None, "tensor_type"))
    return frozenset(names)


@dataclass(frozen=True, eq=False)
class _Step:
    """A body on the way to a tensor, with the node that it is of."""

    node: onnx.NodeProto
    attribute: str
    body: onnx.GraphProto


class _Places:
    """Where tensors are defined, and how they are led out."""

    def __init__(self, graph: onnx.GraphProto, wanted: Sequence[str]) -> None:
        self._conditions = hoist_branches(graph, wanted)
        self._paths: dict[str, tuple[_Step, ...]] = {}
        self._types: dict[str, onnx.ValueInfoProto] = {}
        self._markers: dict[int, str] = {}
        self._made: set[str] = set()
        self._held: dict[str, str] = {}
        self._count = 0
        self._other = untapped_types(graph)
        self._walk(graph, ())

    def _walk(self, graph: onnx.GraphProto, path: tuple[_Step, ...]) -> None:
        for node in graph.node:
            for attribute, body in bodies_of(node):
                inner = (*path, _Step(node, attribute, body))
                self._types.update((value.name, value) for value in (*body.input, *body.value_info, *body.output))
                made = [name for one in body.node for name in one.output if name]
                self._made.update(made)
                self._paths.update(dict.fromkeys((*(value.name for value in body.input), *made), inner))
                self._walk(body, inner)

    def tap(self, name: str) -> Tap | None:
        """Lead a tensor out of the bodies that it is in."""
        path = self._paths.get(name, ())
        kinds = [step.node.op_type for step in path]
        loops = sum(kind != "If" for kind in kinds)
        branches = len(kinds) - loops
        kind = self._types.get(name, onnx.ValueInfoProto()).type.tensor_type
        ranked = bool(kind.elem_type) and kind.HasField("shape")
        if (branches and not kind.elem_type) or ("Scan" in kinds and not ranked) or (path and name in self._other):
            return None
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type or onnx.TensorProto.FLOAT)
        empty = np.zeros((0,) * (len(kind.shape.dim) + loops), dtype)
        held = ((self._condition(one.tensor), one.value) for one in self._conditions.get(name, ()))
        return Tap(name, self._lead_out(name, path, empty), loops, self._marker(path[:branches]), tuple(held))

    def _condition(self, tensor: str) -> str:
        """The output that shows the condition of a branch inside a loop; one from outside of it is the same always."""
        if tensor not in self._held:
            path = self._paths.get(tensor, ())
            loops = sum(step.node.op_type != "If" for step in path)
            self._held[tensor] = self._lead_out(tensor, path, np.zeros((0,) * loops, np.bool_))
        return self._held[tensor]

    def _marker(self, path: tuple[_Step, ...]) -> str | None:
        """The output that says whether a branch was taken, and all those around it."""
        if not path:
            return None
        body = path[-1].body
        if id(body) not in self._markers:
            one = self._name("taken")
            tensor = numpy_helper.from_array(np.ones(1, np.int64), one)
            body.node.append(helper.make_node("Constant", [], [one], value=tensor))
            self._made.add(one)
            self._markers[id(body)] = self._lead_out(one, path, np.zeros(1, np.int64))
        return self._markers[id(body)]

    def _lead_out(self, name: str, path: Sequence[_Step], instead: Array) -> str:
        rank = instead.ndim - sum(step.node.op_type != "If" for step in path)
        for step in reversed(path):
            name = self._through(step, name, instead, rank)
            rank += step.node.op_type != "If"
        return name

    def _through(self, step: _Step, name: str, instead: Array, rank: int) -> str:
        """Let a body give a tensor more, and return what its node calls it; the other branch gives another.

        onnxruntime wants to know of how many axes a Scan stacks slices.
        """
        given, result, node = self._given(step.body, name), self._name(name), step.node
        self._made.add(result)
        element = helper.np_dtype_to_tensor_dtype(instead.dtype)
        for attribute, body in bodies_of(node):
            own = attribute == step.attribute
            made = given if own else self._name(name)
            if not own:
                tensor = numpy_helper.from_array(instead, made)
                body.node.append(helper.make_node("Constant", [], [made], value=tensor))
            value = onnx.ValueInfoProto(name=made)
            if node.op_type == "If":
                value.type.tensor_type.elem_type = element
            elif node.op_type == "Scan":
                value.CopyFrom(helper.make_tensor_value_info(made, element, [None] * rank))
            body.output.append(value)
        outputs = len(step.body.output) - (node.op_type == "Loop")
        node.output.extend([""] * (outputs - 1 - len(node.output)))
        node.output.append(result)
        for name_of, default in (("scan_output_axes", 0), ("scan_output_directions", 0)):
            for one in node.attribute:
                if one.name == name_of:
                    one.ints.append(default)
        return result

    def _given(self, body: onnx.GraphProto, name: str) -> str:
        """Return what a body can give a tensor as: its own name, where a node makes it and it is not given yet.

        An Identity before every result trips onnxruntime's fusions.
        """
        if name in self._made and all(value.name != name for value in body.output):
            return name
        given = self._name(name)
        body.node.append(helper.make_node("Identity", [name], [given]))
        return given

    def _name(self, like: str) -> str:
        self._count += 1
        return f"{like}@{self._count}"
