"""What is not needed is not done: counted, not timed."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.pruning import session
from onnxmi.selection.targets import Targets

LAZY = PruneOptions(keep=0.5, force=True, score="magnitude", repair=False, threads=1, latency=False)


@pytest.fixture
def arrays(samples):
    return {"x": samples(), "labels": np.arange(40) % 4}


@pytest.fixture
def measured(monkeypatch):
    """How often statistics were measured."""
    calls, real = [], session.measure_statistics

    def counted(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(session, "measure_statistics", counted)
    return calls


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({}, 0),
        ({"score": "random"}, 0),
        ({"score": "wanda"}, 1),
        ({"repair": True}, 1),
        ({"target": "labels"}, 1),
    ],
)
def test_statistics_are_measured_only_where_something_reads_them(mlp, arrays, measured, changes, times):
    options = PruneOptions(**{**vars(LAZY), **changes})
    result = onnxmi.prune(mlp(), arrays, options)
    assert len(measured) == times
    assert any(note.startswith("statistics of") for note in result.notes) == bool(times)


def test_a_plan_without_repair_needs_no_statistics(mlp, arrays, measured):
    plan = onnxmi.prune(mlp(), arrays, PruneOptions(keep=0.5, force=True, threads=1, latency=False)).plan
    measured.clear()
    onnxmi.prune(mlp(), arrays, PruneOptions(keep=0.5, force=True, repair=False, threads=1, latency=False), plan=plan)
    assert measured == []


@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_the_plan_is_the_same_with_and_without_statistics(mlp, arrays, score):
    made = [
        onnxmi.prune(mlp(), arrays, PruneOptions(**{**vars(LAZY), "score": score, "repair": r})) for r in (False, True)
    ]
    assert made[0].plan.to_json() == made[1].plan.to_json()


def test_scores_that_look_at_no_activations_build_no_covariances(mlp, arrays, monkeypatch):
    monkeypatch.setattr(Targets, "__call__", None)
    options = PruneOptions(**{**vars(LAZY), "repair": True})
    assert onnxmi.prune(mlp(), arrays, options).plan.choices
