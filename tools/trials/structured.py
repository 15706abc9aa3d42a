"""Structured cuts at a sparsity: the same share of every layer, or uneven sizes as the product allocates them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from onnxmi.graph.cost import parameters
from onnxmi.graph.plan import Plan
from onnxmi.model import Graph
from onnxmi.pruning.cost_search import plain, satisfy_cost_budgets
from onnxmi.pruning.execute import execute_plan, make_plan
from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem, sizing_problem
from trials.sparsity import sparsity_of, uniform_at

Cut = tuple[onnx.ModelProto, float]
"""The model, and the sparsity that was reached."""


def with_options(session: PruningSession, **options: Any) -> PruningSession:
    """The same measurements, used otherwise."""
    return replace(session, options=replace(session.options, **options))


def uniform_cut(session: PruningSession, sparsity: float) -> Cut:
    counts = uniform_at(session, sparsity)
    return execute_plan(session, make_plan(session, counts)).proto, sparsity_of(session, counts)


class Priced:
    """What each size of each layer does to the outputs: measured once for a seed and a score, whatever the sparsity."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], SizingProblem] = {}

    def of(self, session: PruningSession) -> SizingProblem:
        key = session.options.seed, session.options.score
        if key not in self._found:
            self._found[key] = sizing_problem(with_options(session, keep=None), {"params"})
        return self._found[key]


def allocated_cut(session: PruningSession, sparsity: float, problem: SizingProblem) -> Cut:
    """Sizes by what each cut does to the outputs, within the number of parameters that a uniform cut leaves."""
    left = plain(session, uniform_at(session, sparsity))
    share = parameters(Graph(left)) / parameters(session.model.graph)
    session = with_options(session, keep=None, params=share)
    found = satisfy_cost_budgets(session, problem).candidate
    return found.proto, sparsity_of(session, counts_of(session, found.plan))


def counts_of(session: PruningSession, plan: Plan) -> dict[int, int]:
    """Layer id -> units that stay (of each part)."""
    kept = {choice.layer: choice.count for choice in plan.choices}
    return {layer.id: kept.get(layer.name, layer.size) for layer in session.layers}
