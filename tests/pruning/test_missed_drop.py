"""A loss that the test samples show to be larger than what was allowed."""

from __future__ import annotations

import pytest

from onnxmi.budget.goals import Goal
from onnxmi.errors import CheckError
from onnxmi.pruning.final_report import _require_drop
from onnxmi.pruning.options import PruneOptions

MISSED = (Goal.of("max_drop", 0.01, 0.0204),)


def test_a_search_says_that_other_samples_showed_less() -> None:
    with pytest.raises(CheckError, match=r"^not within --max-drop 0\.01: what the search found .* 0\.0204 on the test"):
        _require_drop(MISSED, PruneOptions())


def test_a_condition_beside_other_budgets_says_what_these_lose() -> None:
    with pytest.raises(CheckError, match=r"^out of reach: --max-drop 0\.01: the other budgets lose 0\.0204"):
        _require_drop(MISSED, PruneOptions(macs=0.5, max_drop=0.01))


def test_the_nearest_is_taken_where_that_was_asked_for() -> None:
    _require_drop(MISSED, PruneOptions(best_effort=True))
    _require_drop((Goal.of("max_drop", 0.01, 0.0051),), PruneOptions())
