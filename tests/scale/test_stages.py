"""Capture of lean models: one run, layer by layer, with the statistics of the ordinary one (the limits are lowered)."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.model import Model, mapped
from onnxmi.runtime.session import Session
from onnxmi.statistics import capture

SIZES = (6, 64, 50, 4)
QUICK = PruneOptions(keep=0.5, threads=1, latency=False, batch_size=8)


@pytest.fixture
def runs(monkeypatch):
    """Names of what each run of a session was fed and gave."""
    seen, real = [], Session.run

    def run(session, feeds):
        seen.append((set(feeds), session.outputs))
        return real(session, feeds)

    monkeypatch.setattr(Session, "run", run)
    return seen


@pytest.fixture
def low(monkeypatch):
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10_000)
    monkeypatch.setattr(mapped, "MIN_EXTERNAL_BYTES", 1_000)
    monkeypatch.setattr(capture, "LEAN_MEMORY", 1_000_000)  # the three layers need 1.6 million


def collected(model, samples, **changes):
    return onnxmi.collect(model, {"x": samples()}, PruneOptions(**{**vars(QUICK), **changes}))


def measuring(runs):
    """Leave out the runs before anything is measured: of two batches, and those of what the model answers."""
    assert [outputs for _, outputs in runs[:2]] == [("y",)] * 2
    return [(fed, outputs) for fed, outputs in runs[2:] if outputs != ("y",)]


def assert_alike(got, wanted):
    for one, other in ((got.fit, wanted.fit), (got.validation, wanted.validation)):
        assert list(one.sources) == list(other.sources)
        assert one.samples == other.samples
        for key in one.sources:
            assert one.sources[key].count == other.sources[key].count
            np.testing.assert_allclose(one.sources[key].scatter, other.sources[key].scatter, rtol=1e-5, atol=1e-5)


def test_each_layer_is_run_once(low, mlp, samples, runs):
    source = Model.of(mlp(SIZES))
    got = collected(source, samples)
    made = [(fed, taps) for fed, taps in measuring(runs) if len(taps) == 1]  # sensitivities need all tensors at once
    assert len(made) == 5 + 5  # two layers on batches of 8: 32 samples to fit to, 3 to judge by
    assert all(fed == {"x"} and outputs == ("h0.relu",) for fed, outputs in made[:5])
    assert all(fed == {"h0.relu"} and outputs == ("h1.relu",) for fed, outputs in made[5:])
    assert mapped.is_memory_mapped(source.proto)
    assert_alike(got, collected(mlp(SIZES), samples, memory=10**9))


def test_sums_of_finished_layers_wait_in_files(low, mlp, samples):
    kept = [m.scatter for m in collected(mlp(SIZES), samples).fit.sources.values()]
    assert all(isinstance(scatter, np.memmap) for scatter in kept)


@pytest.mark.parametrize("memory", [100, 10**9], ids=["no room for states", "room for all sums"])
def test_otherwise_the_whole_model_is_run(low, mlp, samples, runs, memory, monkeypatch):
    got = collected(mlp(SIZES), samples, memory=memory)
    assert all(fed == {"x"} for fed, _ in runs)
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10**9)
    assert_alike(got, collected(mlp(SIZES), samples, memory=10**9))


def test_a_small_model_needs_no_stages(mlp, samples, runs):
    collected(mlp(SIZES), samples, memory=1)
    passes = [taps for _, taps in measuring(runs) if len(taps) == 1]  # sensitivities need all tensors at once
    assert len(passes) == 3 * 37  # a pass for each of three layers, a sample at a time
