"""Where a model decides: operators that turn numbers into choices, so that rounding may change what comes after.

The last bit of a score decides which box is kept or which token comes first. Two models that compute the same up to
rounding agree on everything before such an operator, and need not after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.model.graph import Graph

_DECIDES = frozenset({"NonMaxSuppression", "NonZero", "TopK", "ArgMax", "ArgMin", "Unique", "Compress", "Hardmax"})


@dataclass(frozen=True)
class Discontinuities:
    """What the model decides on, and what depends on the outcome.

    Attributes
    ----------
    inputs : tuple of str
        Tensors that are decided on, and do not depend on another decision.
    nodes : tuple of str
        What is decided on these grounds: where two models agree on it, rounding is no excuse.
    dependents : frozenset of str
        Tensors that depend on a decision, in their values and even their shapes.
    """

    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    dependents: frozenset[str]


def find_discontinuities(graph: Graph) -> Discontinuities:
    """Find the operators that decide on numbers that the model computes."""
    outcome, grounds, taken = set[str](), dict[str, None](), list[str]()
    for node in graph.nodes:
        read = node.reads
        decides = node.op in _DECIDES or bool(node.captures and not node.bodies)
        if decides:
            grounds.update(dict.fromkeys(name for name in read if name not in outcome and name not in graph.folded))
            if not any(name in outcome for name in read):
                taken += filter(None, node.outputs)
        if decides or any(name in outcome for name in read):
            outcome.update(name for name in node.outputs if name and name not in graph.folded)
    return Discontinuities(tuple(grounds), tuple(taken), frozenset(outcome))
