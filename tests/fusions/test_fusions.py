"""onnxruntime's fusions still fire on what was cut: as many fused operators as on the dense model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.fusions.zoo_models import Halve
from tests.support.oracle import gap, run

TRANSFORMERS = {
    "hf-bert-cls-eager": "bert",
    "hf-bert-cls-eager-dynamo": "bert",
    "hf-bert-cls-sdpa": "bert",
    "hf-bert-cls-sdpa-dynamo": "bert",
    "hf-gpt2-lm": "gpt2",
    "hf-gpt2-lm-dynamo": "gpt2",
    "hf-vit-cls": "vit",
    "hf-vit-cls-dynamo": "vit",
}
CNNS = ("tv-resnet18", "tv-resnet18-dynamo")
FUSED = ("Attention", "Fast", "Fused", "Gelu", "LayerNormalization", "Quick", "Skip")


def _fused(proto: onnx.ModelProto) -> dict[str, int]:
    ops = Counter(node.op_type for node in proto.graph.node)
    return {op: count for op, count in sorted(ops.items()) if any(word in op for word in FUSED)}


def _optimised_session(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """What onnxruntime's session makes of a model before it runs it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def _optimised_offline(proto: onnx.ModelProto, model_type: str, heads: int, hidden: int) -> onnx.ModelProto:
    """What onnxruntime's transformer optimizer makes of a model."""
    pytest.importorskip("sympy", reason="onnxruntime's transformer optimizer needs sympy, which is not installed")
    optimizer: Any = pytest.importorskip("onnxruntime.transformers.optimizer", exc_type=ImportError)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return optimizer.optimize_model(copy, model_type=model_type, num_heads=heads, hidden_size=hidden, opt_level=0).model


@pytest.mark.parametrize("name", [*TRANSFORMERS, *CNNS])
def test_the_session_fuses_as_much(halve: Halve, tmp_path: Path, name: str) -> None:
    model = halve(name, "heads", "ffn", "channels")
    dense, cut = (_fused(_optimised_session(proto, tmp_path / "o.onnx")) for proto in (model.dense, model.cut))
    assert dense
    assert cut == dense


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_transformer_optimizer_fuses_as_much(halve: Halve, name: str) -> None:
    model = halve(name, "heads", "ffn")
    heads, hidden = model.size("heads"), model.size("width")
    dense = _fused(_optimised_offline(model.dense, TRANSFORMERS[name], heads, hidden))
    cut = _fused(_optimised_offline(model.cut, TRANSFORMERS[name], heads // 2, hidden // 2))
    assert dense
    assert cut == dense


def test_what_is_fused_after_the_cut_is_the_same_function(halve: Halve) -> None:
    """Half of the heads and a narrower attention inside a residual stream as wide as before."""
    model = halve("hf-bert-cls-eager", "heads", "ffn")
    fused = _optimised_offline(model.cut, "bert", model.size("heads") // 2, model.size("width") // 2)
    assert _fused(fused)["Attention"]
    feeds = {info.name: _tokens(info.name) for info in model.cut.graph.input}
    assert gap(run(model.cut, feeds), run(fused, feeds)) <= 1e-4


def _tokens(name: str) -> np.ndarray:
    """Two sentences of eight words, neither masked."""
    ids = np.random.default_rng(0).integers(1, 20, size=(2, 8))
    return {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}.get(name, ids)
