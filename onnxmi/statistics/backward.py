"""Reverse differentiation of a graph: gradients of inner tensors from the gradients of the outputs.

There is no training here, and no gradient of a weight: what is asked is how much the outputs mind a change inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxmi.errors import stage
from onnxmi.model import Graph, Node
from onnxmi.operators.gradients.attention import attention
from onnxmi.operators.gradients.contracting import CONTRACTING, every_letter_comes_back
from onnxmi.operators.gradients.elementwise import ELEMENTWISE
from onnxmi.operators.gradients.ort_fused import ACTIVATIONS, FUSED, activation_of
from onnxmi.operators.gradients.reducing import REDUCING
from onnxmi.operators.gradients.resizing import is_known, resize
from onnxmi.operators.gradients.shaping import SHAPING
from onnxmi.operators.gradients.vjp import Call, Gradients, NoGradientError, Rule
from onnxmi.operators.layouts import MICROSOFT
from onnxmi.typing import Array

RULES: Mapping[str, Rule] = {
    **CONTRACTING,
    **ELEMENTWISE,
    **REDUCING,
    **SHAPING,
    "Attention": attention,
    "Resize": resize,
}

_DOMAINS = {"": RULES, MICROSOFT: {**FUSED, **{op: RULES[op] for op in ("Gelu", "QuickGelu")}}}

DIFFERENTIABLE = frozenset((domain, op) for domain, rules in _DOMAINS.items() for op in rules)
"""(domain, operator) of all with a rule."""

# What gives a product with a stored weight, and a bias and an activation at most.
PRODUCTS = frozenset(
    {("", op) for op in ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")}
    | {(MICROSOFT, op) for op in ("FusedConv", "FusedGemm", "FusedMatMul", "TransposeMatMul")}
)

# Nothing flows back through these: shapes, places, comparisons and steps.
_SHAPES = ("ConstantOfShape", "NonZero", "OneHot", "Range", "Shape", "Size")
_LOGIC = ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor")
_STEPS = ("ArgMax", "ArgMin", "Ceil", "Floor", "Round", "Sign")
_FLAT = frozenset((*_SHAPES, *_LOGIC, *_STEPS))
_PLACES = frozenset({("MaxPool", 1), ("TopK", 1)})  # nor through these outputs, which say where something was found
_FRACTIONS = frozenset({1, 10, 11, 16})  # numbers of float, float16, double and bfloat16 in the format

# Operands whose gradients are known, where it is not the first alone.
_ALL = frozenset(range(64))
_TERMS = ("Add", "Concat", "Div", "Einsum", "Gemm", "MatMul", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")
_OPERANDS: Mapping[tuple[str, str], frozenset[int]] = {
    **{("", op): _ALL for op in _TERMS},
    **{(MICROSOFT, op): _ALL for op in ("FusedGemm", "FusedMatMul", "TransposeMatMul")},
    **{(MICROSOFT, f"Skip{op}"): frozenset({0, 1}) for op in ("LayerNormalization", "SimplifiedLayerNormalization")},
    ("", "Attention"): frozenset({0, 1, 2}),
    **{(MICROSOFT, op): frozenset({0, 1, 2}) for op in ("GroupQueryAttention", "MultiHeadAttention")},
    **{("", op): frozenset({0, 2}) for op in ("ScatterElements", "ScatterND")},
    ("", "Where"): frozenset({1, 2}),
    (MICROSOFT, "FusedConv"): frozenset({0, 3}),
}


def _always(node: Node) -> bool:
    return True


def _without(**usual: Any) -> Callable[[Node], bool]:
    """Whether settings are absent or as usual."""
    return lambda node: all(node.attributes.get(name, value) == value for name, value in usual.items())


def _lacking(*places: int, **usual: Any) -> Callable[[Node], bool]:
    """Whether operands are absent, and settings absent or as usual."""
    return lambda node: not any(map(node.operand, places)) and _without(**usual)(node)


def _is_plain_grouped(node: Node) -> bool:
    """Without biases of scores, sinks, windows or another softmax, and no scores put out."""
    usual = _lacking(10, 11, local_window_size=-1, rotary_interleaved=0, softcap=0.0)(node)
    return usual and node.attributes.get("smooth_softmax", 0) < 1 and not any(node.outputs[3:])


def _adds(node: Node) -> bool:
    return node.attributes.get("reduction", "none") in ("none", "add")


# Where not every setting and operand of an operator is known.
_KNOWN: Mapping[str, Callable[[Node], bool]] = {
    "Attention": _lacking(4, 5, 6, do_rotary=0, softcap=0.0),  # what was before, biases of scores, lengths
    "AveragePool": lambda node: (
        not (node.attributes.get("ceil_mode", 0) and node.attributes.get("count_include_pad", 0))
    ),
    "BatchNormalization": _without(training_mode=0),
    "ConvTranspose": lambda node: _without(auto_pad="NOTSET")(node) and "output_shape" not in node.attributes,
    "Einsum": every_letter_comes_back,
    "FusedMatMul": _without(transBatchA=0, transBatchB=0),
    "GroupQueryAttention": _is_plain_grouped,
    "LpNormalization": _without(p=2),
    "MultiHeadAttention": _lacking(6, 7, 8, 9),
    "Resize": is_known,
    "ScatterElements": _adds,
    "ScatterND": _adds,
    "TransposeMatMul": _without(transBatchA=0, transBatchB=0),
}
_SKIPS = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
_SEVERAL = frozenset({"GroupQueryAttention", "Split", *_SKIPS})  # later outputs, too


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
    """

    graph: Graph
    wanted: frozenset[str]
    targets: tuple[str, ...] = ()

    @cached_property
    def reached(self) -> frozenset[str]:
        """The wanted tensors whose gradients are complete: every path from them to an output is known."""
        return self.wanted - self._lost

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Tensors whose values are needed on the way back."""
        names = (name for node in self._path for name in (*node.inputs, *node.outputs))
        return tuple(dict.fromkeys(name for name in names if name and not self.graph.is_constant(name)))

    @cached_property
    def _active(self) -> frozenset[str]:
        """Tensors that depend on a wanted one."""
        active = set(self.wanted)
        for node in self.graph.nodes:
            if active.intersection((*node.inputs, *node.captures)):
                active.update(_smooth(node))
        return frozenset(active)

    @cached_property
    def _useful(self) -> frozenset[str]:
        """Tensors that a target depends on in a way that gradients flow through."""
        useful = set(self.targets or (info.name for info in self.graph.outputs))
        for node in reversed(self.graph.nodes):
            if useful.intersection(_smooth(node)):
                useful.update(name for name in (*node.inputs, *node.captures) if name)
        return frozenset(useful)

    @cached_property
    def _path(self) -> tuple[Node, ...]:
        """Nodes between the wanted tensors and the outputs, in graph order."""
        return tuple(node for node in self.graph.nodes if self._between(node) and not self._objects(node))

    @cached_property
    def _lost(self) -> frozenset[str]:
        """Tensors whose gradients lack what an unknown operator would hand back."""
        lost: set[str] = set()
        for node in reversed(self.graph.nodes):
            if self._between(node) and (self._objects(node) or lost.intersection(node.outputs)):
                lost.update((*node.inputs, *node.captures))
        return frozenset(lost)

    def _between(self, node: Node) -> bool:
        read = (*node.inputs, *node.captures)
        return bool(self._useful.intersection(_smooth(node)) and self._active.intersection(read))

    def _objects(self, node: Node) -> bool:
        """Whether the way back through a node is unknown."""
        if rule_of(node) is None or node.captures:
            return True
        operands = {place for place, name in enumerate(node.inputs) if name in self._active}
        asides = () if node.op in _SEVERAL else set(_smooth(node)) - {node.outputs[0]}
        return not operands <= _OPERANDS.get((node.domain, node.op), {0}) or bool(self._useful.intersection(asides))

    def __call__(self, values: Mapping[str, Array], upper: Mapping[str, Array]) -> dict[str, Array]:
        """Go back once.

        Parameters
        ----------
        values : mapping
            What the tensors in `reads` held.
        upper : mapping
            Gradients of the targets.

        Returns
        -------
        dict
            Gradients of the tensors in `reached`, float32, of their shapes. One that no output depends on is absent.

        Raises
        ------
        NoGradientError
            If a node turned out to do what its rule does not know.
        """
        found: dict[str, Array] = {name: gradient for name, gradient in upper.items() if name in self._active}

        def value(name: str) -> Array:
            array = self.graph.constant(name) if self.graph.is_constant(name) else values[name]
            return array.astype(np.float32) if array.dtype.kind in "fV" and array.dtype != np.float64 else array

        for node in reversed(self._path):
            if not any(name in found for name in node.outputs if name):
                continue
            wanted = frozenset(place for place, name in enumerate(node.inputs) if name in self._active)
            call = Call(node, value, tuple(found.get(name) for name in node.outputs), wanted, self.graph.opset)
            lower = _handed_back(call)
            for name in node.outputs:
                if name not in self.wanted:
                    found.pop(name, None)
            for place in sorted(wanted):
                gradient, name = lower[place], node.inputs[place]
                if gradient is not None:
                    found[name] = found[name] + gradient if name in found else gradient
        return {name: gradient for name, gradient in found.items() if name in self.reached}


def _handed_back(call: Call) -> Gradients:
    """Apply a node's rule. What it stumbles over is nothing that the model should be refused for."""
    rule = rule_of(call.node)
    assert rule is not None
    try:
        with (
            stage("backward pass", call.node.label),
            np.errstate(all="ignore"),
        ):  # what is not finite is left out by who asks
            return rule(call)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise NoGradientError(f"{call.node.label}: {error}") from error


def rule_of(node: Node) -> Rule | None:
    """Return the rule for a node's operator; None where there is none."""
    known = _KNOWN.get(node.op, _always)(node) and activation_of(node) in ACTIVATIONS
    if not known:
        return None
    return _DOMAINS.get(node.domain, {}).get(node.op)


def _smooth(node: Node) -> tuple[str, ...]:
    """Outputs that change by little where what they are made of does."""
    whole = node.op == "Cast" and node.attributes.get("to") not in _FRACTIONS
    if node.domain == "" and (node.op in _FLAT or whole):
        return ()
    return tuple(name for i, name in enumerate(node.outputs) if name and (node.op, i) not in _PLACES)
