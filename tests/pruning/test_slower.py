"""A result that has less work and takes longer comes with a warning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from onnxmi.graph.cost import Cost
from onnxmi.pruning.final_report import _slower


class Timed:
    """A latency of which only comparisons are asked."""

    def __init__(self, speedup, high):
        self.speedup, self.high = speedup, high

    def speedup_over(self, _other):
        return self.speedup

    def speedup_interval(self, _other):
        return SimpleNamespace(low=0.0, high=self.high)


@pytest.mark.parametrize(
    ("macs", "high", "warned"), [(83, 0.95, True), (83, 1.05, False), (100, 0.95, False), (83, None, False)]
)
def test_it_warns_where_less_work_takes_longer_for_sure(macs, high, warned):
    session = SimpleNamespace(dense_cost=Cost(10, 10, 100))
    latency = None if high is None else (Timed(1.0, 1.0), Timed(0.87, high))
    notes = list(_slower(session, Cost(10, 10, macs), latency))
    assert bool(notes) == warned
    assert all("slower than the model (0.87x) although it has x 0.83" in note for note in notes)
