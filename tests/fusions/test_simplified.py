"""A model as its exporter wrote it, and as a simplifier left it, lose the same share of parameters."""

from __future__ import annotations

import pytest

from onnxmi.graph.channel_graph import KINDS
from onnxmi.graph.cost import parameters
from onnxmi.model import Graph
from tests.fusions.zoo_models import Halve

NAMES = ("hf-bert-cls-eager", "hf-vit-cls", "hf-llama-lm", "hf-swin-cls", "own-lstm-cls", "tv-resnet18")


@pytest.mark.parametrize("name", NAMES)
def test_raw_and_simplified_lose_the_same_share(halve: Halve, name: str) -> None:
    """Of the parameters that the raw form stores: a simplifier stores in addition what it computed in advance."""
    raw, simplified = (halve(f"{name}{suffix}", *KINDS) for suffix in ("", "-slim"))
    stored = parameters(Graph(raw.dense))
    lost = [(parameters(Graph(model.dense)) - parameters(Graph(model.cut))) / stored for model in (raw, simplified)]
    assert lost[0] > 0.2
    assert lost[0] == pytest.approx(lost[1], abs=0.01)
