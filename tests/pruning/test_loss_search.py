"""The search for a loss, with models that stand for real ones: which sizes it tries, and when it gives up."""

from __future__ import annotations

from types import SimpleNamespace as Stand
from typing import Any

import numpy as np
import pytest

from onnxmi.axes.terms import Dim
from onnxmi.budget.allocate import SizeOptions
from onnxmi.errors import CheckError, NothingToPruneError
from onnxmi.graph.cost_model import CostModel, Piece
from onnxmi.pruning import loss_search
from onnxmi.pruning.sizing import SizingProblem

DROP = 0.01
SIZES = np.array([2, 5, 7, 11])


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Search one layer of 11 units whose real loss is a function of its size, in times of what is allowed."""
    monkeypatch.setattr(loss_search, "allowed_damage", lambda _kind, drop: drop)
    problem = SizingProblem(
        {0: SizeOptions(SIZES, np.array([0.4, 0.0085, 0.004, 0.0]))},
        {"time": CostModel.of([Piece(100.0, (Dim(0, 11),))], [0])},
        {"time": 100.0},
    )
    outputs = Stand(yardstick=Stand(views=[Stand(kind="values")]))
    options = Stand(repair=False, best_effort=False)
    session: Any = Stand(
        search_set=Stand(samples=range(30)), outputs=outputs, options=options, precision=None, model=0, source=0
    )

    def run(excess_of: dict[int, float]) -> tuple[Any, list[int]]:
        tried: list[int] = []

        def judged(_session: Any, counts: dict[int, int], _repair: str, _progress: Any) -> tuple[Any, Any]:
            tried.append(counts[0])
            if excess_of[counts[0]] == np.inf:
                raise CheckError("wrong")
            worst = Stand(error=excess_of[counts[0]] * DROP, view=Stand(name="y"))
            reading = Stand(metric="r2", loss=Stand(text="lost"))
            judgement = Stand(
                drop=0.0,
                error=None,
                excess=lambda _drop: excess_of[counts[0]],
                expected_loss=lambda _drop: excess_of[counts[0]] * DROP,
                worst=lambda _drop: worst,
                decisive=reading,
            )
            return counts[0], judgement

        try:
            return loss_search.search_quality_budget(session, problem, DROP, judge_trial=judged).candidate, tried
        except NothingToPruneError as error:
            return str(error), tried

    return run


def test_sizes_are_coarse_a_milder_cut_is_one_of_other_sizes(search: Any) -> None:
    """Just beyond the limit at one size, the next larger one is tried, however far off that is."""
    chosen, tried = search({2: 9.0, 5: 1.02, 7: 0.3, 11: 0.0})
    assert chosen == 7
    assert len(tried) == len(set(tried))


def test_no_trial_is_made_twice_where_a_check_stops_it(search: Any) -> None:
    chosen, tried = search({2: 9.0, 5: np.inf, 7: 0.3, 11: 0.0})
    assert chosen == 7
    assert len(tried) == len(set(tried))


def test_the_mildest_cut_is_tried_before_it_is_refused(search: Any) -> None:
    message, tried = search({2: 9.0, 5: 4.0, 7: 2.0, 11: 0.0})
    assert "nothing to prune: every cut that was tried loses more" in message
    assert 7 in tried
