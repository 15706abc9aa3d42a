"""Structured cuts at a sparsity: the same share of every layer, or uneven sizes as the product allocates them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from onnxmi.graph.cost import parameters
from onnxmi.graph.plan import Plan
from onnxmi.model import Graph
from onnxmi.pruning.search import Prices, meet, plain, price
from onnxmi.pruning.session import Study, carry_out, choose
from trials.sparsity import sparsity_of, uniform_at

Cut = tuple[onnx.ModelProto, float]
"""The model, and the sparsity that was reached."""


def with_options(study: Study, **options: Any) -> Study:
    """The same measurements, used otherwise."""
    return replace(study, options=replace(study.options, **options))


def uniform_cut(study: Study, sparsity: float) -> Cut:
    counts = uniform_at(study, sparsity)
    return carry_out(study, choose(study, counts)).proto, sparsity_of(study, counts)


class Priced:
    """What each size of each layer does to the outputs: measured once for a seed and a score, whatever the sparsity."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Prices] = {}

    def of(self, study: Study) -> Prices:
        key = study.options.seed, study.options.score
        if key not in self._found:
            self._found[key] = price(with_options(study, keep=None), {"params"})
        return self._found[key]


def allocated_cut(study: Study, sparsity: float, prices: Prices) -> Cut:
    """Sizes by what each cut does to the outputs, within the number of parameters that a uniform cut leaves."""
    left = plain(study, uniform_at(study, sparsity))
    share = parameters(Graph(left)) / parameters(study.model.graph)
    study = with_options(study, keep=None, params=share)
    found = meet(study, prices).candidate
    return found.proto, sparsity_of(study, counts_of(study, found.plan))


def counts_of(study: Study, plan: Plan) -> dict[int, int]:
    """Layer id -> units that stay (of each part)."""
    kept = {choice.layer: choice.count for choice in plan.choices}
    return {layer.id: kept.get(layer.name, layer.size) for layer in study.layers}
