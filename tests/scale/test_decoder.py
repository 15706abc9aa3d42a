"""The decoder that tools/bench_scale.py makes: valid, understood, and cut to the same bytes lean and whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.model import mapped
from onnxmi.statistics import capture

ROOT = Path(__file__).resolve().parents[2]
BLOCKS, TOKENS = 2, 7


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("bench_scale", ROOT / "tools" / "bench_scale.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    module.VOCABULARY = 97
    yield module
    del sys.modules[spec.name]


@pytest.fixture(params=["float32", "float16"])
def path(request, tool, tmp_path):
    shape = tool.Shape(width=32, blocks=BLOCKS, heads=4, groups=2, units=44)
    tool.Decoder(shape, request.param, tmp_path / "model.onnx.data").write(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def ids():
    return {"input_ids": np.random.default_rng(0).integers(1, 97, (24, TOKENS))}


@pytest.fixture
def low(monkeypatch):
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10_000)
    monkeypatch.setattr(mapped, "MIN_EXTERNAL_BYTES", 1_000)
    monkeypatch.setattr(capture, "LEAN_MEMORY", 2_000_000)


def test_it_is_valid_and_runs(path, ids):
    onnx.checker.check_model(str(path), full_check=True)
    logits = onnxruntime.InferenceSession(path).run(None, ids)[0]
    assert logits.shape == (24, TOKENS, 97)
    assert 0.01 < np.abs(logits.astype(np.float32)).mean() < 100


def test_it_looks_at_no_later_token(path, ids):
    session = onnxruntime.InferenceSession(path)
    first = session.run(None, ids)[0]
    changed = ids["input_ids"].copy()
    changed[:, 4] = changed[:, 4] % 96 + 1
    second = session.run(None, {"input_ids": changed})[0]
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert (first[:, 4:] != second[:, 4:]).any()


def test_all_of_it_is_understood(path):
    kinds = [layer.kind for layer in onnxmi.analyse(path).graph.layers]
    assert {kind: kinds.count(kind) for kind in ("ffn", "value", "width")} == {
        "ffn": BLOCKS,
        "value": BLOCKS,
        "width": 1,
    }
    assert kinds.count("heads") == 2 * BLOCKS  # groups of heads, and heads within a group


@pytest.mark.parametrize("score", ["magnitude", "joint"])
def test_a_decoder_is_cut_to_the_same_bytes_lean_and_whole(path, ids, low, monkeypatch, score):
    options = PruneOptions(keep=0.5, force=True, threads=1, latency=False, repair=False, score=score)
    thin = onnxmi.prune(path, ids, options)
    assert mapped.is_memory_mapped(thin.analysis.model.proto)
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10**9)
    fat = onnxmi.prune(path, ids, options)
    assert thin.plan.choices
    assert thin.proto.SerializeToString(deterministic=True) == fat.proto.SerializeToString(deterministic=True)


def test_a_lean_decoder_is_repaired(path, ids, low):
    result = onnxmi.prune(path, ids, PruneOptions(keep=0.5, force=True, threads=1, latency=False))
    assert mapped.is_memory_mapped(result.analysis.model.proto)
    assert not mapped.is_memory_mapped(result.proto)
    assert any(note.used for note in result.repairs)
