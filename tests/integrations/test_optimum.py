"""A model that Optimum runs is pruned, and Optimum runs the result."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi

onnxruntime = pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def test_optimum_runs_what_is_left_of_its_export(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, num_labels=3
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "torch")
    load = onnxruntime.ORTModelForSequenceClassification.from_pretrained
    load(tmp_path / "torch", export=True).save_pretrained(tmp_path / "onnx")
    ids = np.random.default_rng(0).integers(1, 101, (96, 17))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    result = onnxmi.prune(tmp_path / "onnx" / "model.onnx", feeds, keep=0.5, threads=1)
    result.save(tmp_path / "onnx" / "model_pruned.onnx")
    small = load(tmp_path / "onnx", file_name="model_pruned.onnx")
    tensors = {name: torch.from_numpy(array[:5]) for name, array in feeds.items()}
    logits = small(**tensors).logits
    assert tuple(logits.shape) == (5, 3)
    assert torch.isfinite(logits).all()
