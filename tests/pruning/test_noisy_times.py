"""The search for a cost, with times that vary: how far it cuts where measured times miss what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace as Stand
from typing import Any

import numpy as np
import pytest

from onnxmi.axes.terms import Dim
from onnxmi.budget.allocate import SizeOptions
from onnxmi.budget.goals import Goal
from onnxmi.graph.cost_model import CostModel, Piece
from onnxmi.pruning import cost_search
from onnxmi.pruning.sizing import SizingProblem

WIDTH = 97
SIZES = np.arange(1, WIDTH + 1)
ASKED = 1.5


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Search one layer whose time is proportional to its size, but for a factor that each measurement has."""
    problem = SizingProblem(
        {0: SizeOptions(SIZES, 1.0 - SIZES / WIDTH)},
        {"time": CostModel.of([Piece(100.0, (Dim(0, WIDTH),))], [0])},
        {"time": 100.0},
    )
    budget = Stand(costs=("speedup",), asked={"speedup": ASKED})
    session: Any = Stand(
        options=Stand(budget=budget, best_effort=False), precision=None, model=0, source=0, as_written=lambda cut: cut
    )
    monkeypatch.setattr(cost_search, "plain", lambda _session, counts: ("plain", counts[0]))
    monkeypatch.setattr(cost_search, "make_plan", lambda _session, counts, _progress: counts[0])
    made = lambda _session, size, progress: Stand(proto=("repaired", size), result=("repaired", size))  # noqa: E731
    monkeypatch.setattr(cost_search, "execute_plan", lambda session, plan, progress: made(session, plan, progress))

    def run(factors: dict[str, Iterator[float]]) -> int:
        def measured(_session: Any, proto: tuple[str, int], _result: Any) -> Any:
            speedup = WIDTH / proto[1] / next(factors[proto[0]])
            return cost_search._Measured((Goal.of("speedup", ASKED, speedup),))

        monkeypatch.setattr(cost_search, "_measure", measured)
        return int(cost_search.satisfy_cost_budgets(session, problem).candidate.proto[1])

    return run


def times(*first: float, then: float = 1.0) -> Iterator[float]:
    yield from first
    while True:
        yield then


def test_without_noise_what_is_asked_is_just_met(search: Any) -> None:
    assert search({"plain": times(), "repaired": times()}) == int(WIDTH / ASKED)


def test_a_repaired_model_that_misses_is_cut_as_much_further(search: Any) -> None:
    whole = WIDTH / ASKED
    assert 0.8 * whole < search({"plain": times(), "repaired": times(1.1, 1.05)}) <= whole


def test_cuts_that_miss_by_noise_are_not_followed_by_the_smallest_one(search: Any) -> None:
    assert search({"plain": times(*(1.2**n for n in range(1, 8))), "repaired": times()}) > 0.15 * WIDTH
