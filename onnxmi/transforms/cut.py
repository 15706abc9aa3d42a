"""A cut of an analyzed model: what stays of each atom, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnxmi.axes.keeping import Keeping
from onnxmi.errors import PlanError
from onnxmi.graph.channel_graph import ChannelGraph
from onnxmi.graph.linear import Linear
from onnxmi.model import Model
from onnxmi.transforms.analysis import Analysis
from onnxmi.transforms.empty_branches import Branches, find_branches


@dataclass(frozen=True, eq=False)
class Cut:
    """What stays of a model.

    Attributes
    ----------
    analysis : Analysis
        The model with its channel graph and its linear operators.
    keeping : Keeping
        What stays of each cut atom; an atom that is absent stays whole.
    """

    analysis: Analysis
    keeping: Keeping

    @property
    def model(self) -> Model:
        """The model that is cut."""
        return self.analysis.model

    @property
    def graph(self) -> ChannelGraph:
        """Its channel graph."""
        return self.analysis.graph

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Its linear operators."""
        return self.analysis.linears

    @cached_property
    def branches(self) -> Branches:
        """The branches that go whole; worked out once. Raises PlanError where they cannot go."""
        return find_branches(self.analysis, self.keeping)

    @property
    def is_possible(self) -> bool:
        """Whether every branch of which nothing is kept can go."""
        try:
            _ = self.branches
        except PlanError:
            return False
        return True
