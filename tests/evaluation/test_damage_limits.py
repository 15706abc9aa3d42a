"""From which damage on an output is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnxmi.evaluation.damage_limits import excess, loss_text, lost
from onnxmi.evaluation.yardstick import Damage, Part
from onnxmi.outputs.view import View

NUMBERS = View("y", "y", "y", "values", "identity", (1,), 0, columns=7)


def part(view: View, error: float, worst: float) -> Damage:
    return Damage((Part(view, error, 3, worst),))


@pytest.mark.parametrize(
    ("view", "counts"),
    [
        (NUMBERS, True),
        (replace(NUMBERS, kind="classes", columns=100), True),
        (replace(NUMBERS, kind="classes", columns=101), False),
        (replace(NUMBERS, kind="classes", link="softmax", columns=1009), True),
        (replace(NUMBERS, kind="embedding"), False),
        (replace(NUMBERS, kind="state"), False),
    ],
)
def test_a_lost_column_counts_where_it_is_a_share_of_the_output(view: View, counts: bool) -> None:
    assert bool(lost(part(view, 0.003, 0.81))) == counts
    assert (excess(part(view, 0.003, 0.81), 0.01) > 1) == counts
    assert not lost(part(view, 0.003, 0.79))
    assert lost(part(view, 0.51, 0.79))


def test_it_is_said_whether_the_output_or_a_column_is_lost() -> None:
    assert loss_text(part(NUMBERS, 0.2, 1.34).parts[0]).startswith("column 3 of output y is lost: its damage is 1.34")
    assert loss_text(part(NUMBERS, 0.7, 1.34).parts[0]).startswith("output y is lost: its damage is 0.70")


def test_what_is_not_finite_is_lost() -> None:
    assert lost(part(NUMBERS, float("nan"), float("nan")))
    assert lost(part(NUMBERS, float("inf"), float("inf")))


def test_a_column_that_one_sample_alone_loses_is_not_lost() -> None:
    assert not lost(Damage((Part(NUMBERS, 0.003, 3, 1.34, elsewhere=0.79),)))
    assert lost(Damage((Part(NUMBERS, 0.003, 3, 1.34, elsewhere=0.82),)))
