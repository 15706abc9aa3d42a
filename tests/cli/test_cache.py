"""`onnxmi cache`: what is kept of earlier runs."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ONNXMI_CACHE", str(tmp_path / "kept"))


def test_the_cache_is_shown_and_cleared(place, tmp_path):
    assert place.succeeds("cache").strip() == f"{tmp_path / 'kept'}: holds 0 entries, 0 bytes"
    place.succeeds("prune", "model.onnx", "calib.npz", "--macs", "0.6")
    shown = json.loads(place.succeeds("cache", "--json"))
    assert shown["cleared"] is False
    (entry,) = shown["entries"]
    assert entry["bytes"] > 1000
    assert "runs" in entry["path"]
    assert "holds 1 entry" in place.succeeds("cache", columns=300)
    assert "removed 1 entry" in place.succeeds("cache", "--clear", columns=300)
    assert json.loads(place.succeeds("cache", "--json"))["entries"] == []


def test_a_fresh_run_keeps_nothing(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--macs", "0.6", "--fresh")
    assert json.loads(place.succeeds("cache", "--json"))["entries"] == []
