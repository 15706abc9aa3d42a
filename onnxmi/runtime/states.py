"""Outputs that are fed back: states of recurrent and streaming models, and caches of keys and values."""

from __future__ import annotations

import re
from collections.abc import Mapping

from onnxmi.model import Graph
from onnxmi.runtime.probe import Probe

STATES = 0.1  # weight of all states together, where an output weighs 1

_PHRASES = re.compile(r"key_values|kv_cache|past_kv")
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
# Words that tell the two sides of a state apart, and say nothing of which state it is.
_BEFORE = frozenset({"past", "in", "input", "inputs", "init", "initial", "prev", "previous", "old", "last"})
_AFTER = frozenset({"present", "out", "output", "outputs", "final", "new", "next", "updated", "current", "n"})
_SIDES = _BEFORE | _AFTER
_SHORT = re.compile(r"(?<![A-Za-z])(?:([hc])_?[n0tx]|([a-z]\d+)[io])$")  # hn, c0, r1i
# Words without which an input whose name has no such side is no state: `x` and `x_out` may be a picture and its copy.
_STATEFUL = frozenset({"state", "states", "hidden", "cell", "cache", "cached", "mem", "mems", "memory", "h", "c"})
_CACHED = re.compile(r"(^|[._/])(present|past)([._/]|_key|$)")


def find_states(graph: Graph, seen: Probe) -> Mapping[str, str]:
    """Find the outputs that are states.

    Returns
    -------
    mapping of str to str
        Output -> the input that it is fed back as; empty text where that input is another model's. Nothing where all
        outputs would be states: then they are what the model is for.
    """
    inputs = {stem: info.name for info in graph.inputs if (stem := _stem(info.name))}
    found: dict[str, str] = {}
    for info in graph.outputs:
        source = inputs.get(_stem(info.name), info.name)
        if source != info.name and _named_as_state(source) and _alike(seen, source, info.name):
            found[info.name] = source
        elif _CACHED.search(info.name):
            found[info.name] = ""
    return found if len(found) < len(graph.outputs) else {}


def _pieces(name: str) -> list[str]:
    return [piece.lower() for piece in _PIECES.findall(_PHRASES.sub("", _SHORT.sub(r"\1\2", name)))]


def _stem(name: str) -> tuple[str, ...]:
    """What is left of a name without the words that say which side of a state it is."""
    return tuple(piece for piece in _pieces(name) if piece not in _SIDES)


def _named_as_state(name: str) -> bool:
    pieces = set(_pieces(name))
    return bool(pieces & _STATEFUL or pieces & _SIDES) or _SHORT.search(name) is not None


def _alike(seen: Probe, source: str, output: str) -> bool:
    """Whether an output can be fed back: the same type, and the same shape but for one axis that may grow."""
    was, now = seen.shapes.get(source), seen.shapes.get(output)
    if was is None or now is None or len(was) != len(now) or seen.dtypes.get(source) != seen.dtypes.get(output):
        return False
    return sum(a != b for a, b in zip(was, now, strict=True)) <= 1
