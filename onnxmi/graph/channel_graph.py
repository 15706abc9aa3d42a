"""The channel graph: what inference found out about a model, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NewType

from onnxmi.axes.keeping import Kept
from onnxmi.axes.terms import AtomId, Axes, Term
from onnxmi.operators import declarations
from onnxmi.typing import Ints

Grade = Literal["exact", "renormalising"]
LayerId = NewType("LayerId", AtomId)
"""The identity of a layer within one channel graph: its atom's, so that it is one of an atom, too."""
KINDS = ("channels", "embedding", "ffn", "heads", "hidden", "qk", "value", "width")
"""The kinds of layers; see `Layer.kind`."""
UnitCounts = dict[LayerId, int]
"""Layer -> units to keep (of each part)."""
Use = tuple[int, int]
"""(node index, operand position): one reading of a tensor."""


Contraction = declarations.Contraction[Term]
SizeOperand = declarations.SizeOperand[Term]
SizeAttribute = declarations.SizeAttribute[Term]
PinnedAttribute = declarations.PinnedAttribute[Term]
Normalization = declarations.Normalization[Term]


@dataclass(frozen=True)
class Layer:
    """An atom that some stored tensor carries and some operator contracts over: what can be cut.

    Attributes
    ----------
    id : LayerId
        The atom.
    name : str
        The name users see and select by: that of the node that first makes it.
    size : int
        Number of units (for a ragged layer: of each outer index).
    kind : str
        "channels" of a convolution; in a transformer "ffn", "heads", "qk" (query and key dimensions), "value" (value
        dimensions), "width" (the residual stream) and "embedding" (of a table that is looked up); else "hidden".
    grade : str
        "exact": the cut model equals the original with the cut units zeroed where they are consumed.
        "renormalising": a normalization runs over the layer.
    makers, users : tuple of int
        Nodes that make the layer's channels from weights; nodes that contract over them.
    outer_atom : AtomId or None
        The outer atom of a ragged layer: each of its `parts` indices keeps its own units, all the same number.
    parts : int
        Size of the outer atom; 1 where there is none.
    """

    id: LayerId
    name: str
    size: int
    kind: str
    grade: Grade
    makers: tuple[int, ...]
    users: tuple[int, ...]
    outer_atom: AtomId | None = None
    parts: int = 1

    @property
    def units(self) -> int:
        """Number of units that can be cut one by one, over all parts."""
        return self.size * self.parts

    def keep(self, indices: Ints) -> Kept:
        """Return what stays of it: the same units (k,) of every part, or units of each part (parts, k)."""
        return Kept(indices, self.outer_atom if indices.ndim == 2 else None)


@dataclass(frozen=True)
class Frozen:
    """An atom that would be a layer but cannot be cut, and why."""

    id: AtomId
    name: str
    size: int
    reason: str


@dataclass(frozen=True)
class ChannelGraph:
    """Everything the later stages need to know about a model's axes.

    Attributes
    ----------
    axes : mapping of tensor name to terms
        One term an axis. Stored vectors that several nodes read are in `uses` instead.
    uses : mapping of (node, operand) to terms
        Terms of stored vectors, separately for each reading, so that layers that share a vector by accident stay apart.
    layers : tuple of Layer
        In topological order of their makers.
    frozen : tuple of Frozen
        What was left alone.
    pinned : tuple of PinnedAttribute
        Defaults that would change with a size.
    normalizations : tuple of Normalization
        Where a mean or a variance is taken over channels.
    shape_readers : tuple of int
        Nodes whose output states the shape of their input.
    states : tuple of (str, str)
        Inputs of the model and the outputs that are fed back as them, whose units may be cut in both.
    """

    axes: Mapping[str, Axes]
    uses: Mapping[Use, Axes]
    contractions: tuple[Contraction, ...]
    size_operands: tuple[SizeOperand, ...]
    size_attributes: tuple[SizeAttribute, ...]
    shape_readers: tuple[int, ...]
    layers: tuple[Layer, ...]
    frozen: tuple[Frozen, ...]
    pinned: tuple[PinnedAttribute, ...] = ()
    normalizations: tuple[Normalization, ...] = ()
    states: tuple[tuple[str, str], ...] = ()

    def read(self, node: int, operand: int, name: str) -> Axes | None:
        """Terms of a tensor as one node reads it; None where its shape is unknown."""
        return self.uses.get((node, operand)) or self.axes.get(name)

    def layer(self, atom: AtomId) -> Layer | None:
        """Return the layer of an atom, if it can be cut."""
        return next((layer for layer in self.layers if layer.id == atom), None)
