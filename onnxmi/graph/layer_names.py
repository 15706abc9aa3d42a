"""Names of layers as people see them: long ones by their ends, and a number for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxmi.graph.channel_graph import ChannelGraph, LayerId

LONG = 32  # characters; shorter names are shown as they are
FEWEST = 3  # parts of a path that are left of a long one
_MARK = re.compile(r"(:[a-z]+)?(#\d+)?$")  # what tells several axes of one operator apart
_JOINT = ";"  # between the names that a converter joined when it made one operator of several


@dataclass(frozen=True)
class LayerNames:
    """How the layers of a graph are called for people.

    Attributes
    ----------
    short : mapping of str to str
        Name of a layer, or of an axis that is left alone -> the same, shortened; all are distinct.
    numbers : mapping of LayerId to int
        Numbers of the layers, from 1 on in the order of the graph.
    """

    short: Mapping[str, str]
    numbers: Mapping[LayerId, int]

    @staticmethod
    def of(graph: ChannelGraph) -> LayerNames:
        """Shorten the names of a graph's layers and of what is left alone."""
        names = [layer.name for layer in graph.layers] + [frozen.name for frozen in graph.frozen]
        return LayerNames(short_names(names), {layer.id: number for number, layer in enumerate(graph.layers, 1)})

    def __getitem__(self, name: str) -> str:
        """Return the short form of a name; one that is not known stays."""
        return self.short.get(name, name)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten long names to the fewest last parts of their paths that no other name ends in."""
    distinct = list(dict.fromkeys(names))
    paths = {name: first_of_joined(name).split("/") for name in distinct}
    ends = Counter("/".join(path[start:]) for path in paths.values() for start in range(len(path)))
    return {name: _short(name, path, ends) for name, path in paths.items()}


def _short(name: str, path: Sequence[str], ends: Counter[str]) -> str:
    if len(name) <= LONG:
        return name
    candidates = ("/".join(path[-count:]) for count in range(min(FEWEST, len(path)), len(path) + 1))
    return next((end for end in candidates if ends[end] == 1), name)


def first_of_joined(name: str) -> str:
    """Return the first of the names that a converter joined; a name of one operator as it is."""
    own = _MARK.search(name)
    base, mark = (name[: own.start()], own[0]) if own else (name, "")
    return (base.partition(_JOINT)[0] or base) + mark
