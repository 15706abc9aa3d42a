"""Outputs that are in part memory which nobody wrote: a model does not give the same there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxmi.model.graph import Graph

# (domain, operator) -> the attribute that makes it leave a part of some results as it finds the memory, and these.
_PARTLY_WRITTEN: Mapping[tuple[str, str], tuple[str, tuple[int, ...]]] = {
    # A cache of the size of the window, as onnxruntime-genai writes it for Gemma: slots before the first position.
    ("com.microsoft", "GroupQueryAttention"): ("sliding_window_cache", (1, 2)),
}


def find_uninitialized(graph: Graph) -> frozenset[str]:
    """Return the tensors that hold memory which nobody wrote; what reads them leaves those places out."""
    found = set[str]()
    for node in graph.nodes:
        attribute, places = _PARTLY_WRITTEN.get((node.domain, node.op), ("", ()))
        if node.attributes.get(attribute, 0):
            found.update(node.outputs[place] for place in places if place < len(node.outputs) and node.outputs[place])
    return frozenset(found)


def comparable(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some outputs that are the same in every run; all of them where none is."""
    unwritten = find_uninitialized(graph)
    return tuple(name for name in names if name not in unwritten) or tuple(names)
