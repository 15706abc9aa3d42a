"""Multiply-accumulates of fused and packed operators: as many as of what they stand for, predicted as they are cut."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.build import Build

import onnxmi
from onnxmi.cost import cost
from onnxmi.cost_model import CostModel, mac_pieces
from onnxmi.latency_model import draw_sizes, plain_cut
from onnxmi.probe import run_shapes
from onnxmi.rewrite import rewrite
from onnxmi.sizes import candidate_sizes

MS, IN, TOKENS, WIDTH, HEADS, DIMS, OUT = "com.microsoft", 7, 3, 13, 4, 5, 5


def attention() -> tuple[onnx.ModelProto, int]:
    b = Build(seed=3)
    x = b.op("Relu", b.dense(b.input("N", TOKENS, IN), IN, WIDTH))
    inner = HEADS * DIMS
    made = b.op("Attention", x, b.weight(WIDTH, 3 * inner), b.vector(3 * inner), num_heads=HEADS, domain=MS)
    macs = IN * WIDTH + WIDTH * 3 * inner + inner * OUT
    return b.proto(b.dense(made, inner, OUT), dims=[("N", TOKENS, OUT)]), TOKENS * macs


def packed() -> tuple[onnx.ModelProto, int]:
    b = Build(seed=3)
    blocks, block = 5, 16
    x = b.op("Relu", b.dense(b.input("N", TOKENS, IN), IN, blocks * block))
    stored = b.const(b.rng.integers(0, 255, size=(OUT, blocks, block // 2)).astype(np.uint8))
    attributes = {"K": blocks * block, "N": OUT, "bits": 4, "block_size": block}
    made = b.op("MatMulNBits", x, stored, b.vector(OUT * blocks), domain=MS, **attributes)
    return b.proto(made, dims=[("N", TOKENS, OUT)]), TOKENS * blocks * block * (IN + OUT)


@pytest.mark.parametrize("make", [attention, packed])
def test_they_are_counted_and_predicted(make) -> None:
    proto, wanted = make()
    analysis = onnxmi.analyse(proto)
    feeds = {"x": np.zeros((3, TOKENS, IN), np.float32)}
    assert cost(proto, feeds, 3).macs == wanted
    graph, layers = analysis.model.graph, analysis.graph.layers
    shapes = dict(run_shapes(proto, feeds)) | {name: graph.constant_shape(name) for name in graph.constants}
    shapes["x"] = (3, TOKENS, IN)
    macs = CostModel.of(mac_pieces(graph, analysis.graph, shapes, 3), [layer.id for layer in layers])
    sizes = {layer.id: candidate_sizes(analysis.model, analysis.graph, layer, 1) for layer in layers}
    sizes = {atom: found[found > 0] for atom, found in sizes.items()}
    for draw in draw_sizes(sizes, 5, seed=3):
        cut = rewrite(analysis.model, analysis.graph, plain_cut(layers, draw))
        assert macs.total(draw) == pytest.approx(cost(cut, feeds, 3).macs, rel=1e-6)
