"""Which operators inside a Loop or a Scan are refitted one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

from onnxmi.graph.linear import Linear
from onnxmi.model import Graph

MOST_IN_A_LOOP = 16  # operators: a loop is run once for each of them


def steppable_in_loops(graph: Graph, linears: Sequence[Linear], shown: Container[str]) -> frozenset[str]:
    """Return the keys of the operators that are refitted step by step although they are inside a loop.

    The others keep their one-pass repair: those of loops that hold many or read what is no tensor, those that read what
    is outside, which no iteration shows, and those of several biases in one.

    Parameters
    ----------
    shown : container of str
        The tensors whose axes are known.
    """
    inside = {name for node in graph.nodes if node.loops for name in node.outputs} | set(graph.body_inputs)
    looped = [one for one in linears if one.nodes[0].loops]
    held = Counter(graph.outermost(one.nodes[0]).index for one in looped)

    def steppable(linear: Linear) -> bool:
        outermost = graph.outermost(linear.nodes[0])
        read = (*filter(None, outermost.inputs), *outermost.captures)
        if held[outermost.index] > MOST_IN_A_LOOP or any(
            name not in shown and not graph.is_constant(name) for name in read
        ):
            return False
        return linear.taps[0] in inside and not linear.layout.shares_bias

    return frozenset(one.key for one in looped if steppable(one))
