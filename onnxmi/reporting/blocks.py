"""Layers folded to the blocks of the network: one line for each block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KIND_NAMES: Mapping[str, str] = {
    "ffn": "FFN",
    "hidden": "units",
    "qk": "query and key dimensions",
    "value": "value dimensions",
    "width": "residual width",
    "embedding": "embedding directions",
}
"""Kind of a layer -> what its units are called; other kinds are called as they are."""

_OWN = 2  # last parts of a name that are the operator and its module


@dataclass(frozen=True)
class LayerSize:
    """A layer with its units before and after, over all parts."""

    name: str
    kind: str
    before: int
    after: int


@dataclass(frozen=True)
class Block:
    """Layers of one block of the network.

    Attributes
    ----------
    name : str
        As short as the other blocks allow.
    layers : tuple of LayerSize
        In the order of the model.
    """

    name: str
    layers: tuple[LayerSize, ...]

    @property
    def text(self) -> str:
        """Return how many units stay, such as `heads 5 of 12, FFN 624 of 1,536`."""
        kinds = dict.fromkeys(layer.kind for layer in self.layers)
        return ", ".join(self._kind_text(kind) for kind in kinds)

    def _kind_text(self, kind: str) -> str:
        layers = [layer for layer in self.layers if layer.kind == kind]
        before, after = sum(layer.before for layer in layers), sum(layer.after for layer in layers)
        several = f" in {len(layers)} layers" if len(layers) > 1 else ""
        return f"{KIND_NAMES.get(kind, kind)} {after:,} of {before:,}{several}"


def fold(layers: Sequence[LayerSize]) -> list[Block]:
    """Group layers by the numbered part of their names, such as `layer.0` or `block1`; others stay alone."""
    members: dict[str, list[LayerSize]] = {}
    for layer in layers:
        members.setdefault(block_path(layer.name), []).append(layer)
    labels = _labels(members)
    return [Block(labels[path], tuple(own)) for path, own in members.items()]


def block_path(name: str) -> str:
    """Return the path of the block that a layer is in: up to the last numbered module above its own."""
    separator = _separator(name)
    parts = name.split(separator)
    above = [place for place, part in enumerate(parts[:-_OWN]) if any(map(str.isdigit, part))]
    return separator.join(parts[: above[-1] + 1]) if above else name


def _labels(members: Mapping[str, Sequence[LayerSize]]) -> dict[str, str]:
    """Return the last part of each block's path; all of it where that is not unique, or where it is a layer's name."""
    short = {path: _last_part(path) for path in members}
    count = Counter(short.values())
    whole = {path for path, layers in members.items() if count[short[path]] > 1 or path == layers[0].name}
    return {path: path if path in whole else label for path, label in short.items()}


def _last_part(path: str) -> str:
    parts = path.split(_separator(path))
    number_only = parts[-1].isdigit() and len(parts) > 1
    return ".".join(parts[-2:]) if number_only else parts[-1]


def _separator(name: str) -> str:
    return "/" if "/" in name else "."
