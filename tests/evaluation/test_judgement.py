"""Whether samples speak against a promise: what is counted on them, and what the damage foretells."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onnxmi.evaluation.judgement import BY_MARGINS, FORETELLING, Judgement
from onnxmi.evaluation.loss import Loss
from onnxmi.evaluation.output_metrics import MetricValue
from onnxmi.evaluation.yardstick import Damage, Part
from onnxmi.outputs.view import Answers
from tests.support.answers import VIEW

LIMIT = 0.0175  # damage of classes that goes with one point
POINT = 0.01


def judgement(
    damage: float, loss: float, flips: int | None = 2, half: float = 0.01, *, samples: int = 123
) -> Judgement:
    told = Loss(loss, loss - half, loss + half, samples, flips, 0, "accuracy")
    value = MetricValue("accuracy", 0.9, 0.9 - loss, told)
    return Judgement(Answers(samples, {}), Damage((Part(VIEW, damage, None, damage),)), {"y": (value,)})


@pytest.mark.parametrize("samples", [1, 123, 10_000])
def test_count_and_damage_are_averaged(samples: int) -> None:
    weighed = (FORETELLING * 0.5 * POINT + samples * 0.03) / (FORETELLING + samples)
    assert judgement(0.5 * LIMIT, 0.03, samples=samples).expected_loss(POINT) == pytest.approx(weighed)


@pytest.mark.parametrize("samples", [1, 123, 10_000])
def test_what_margins_foretell_stands_for_the_count(samples: int) -> None:
    counted = judgement(0.5 * LIMIT, 0.07, samples=samples)
    (value,) = counted.readings["y"]
    for gained, weight in ((None, BY_MARGINS), (0, FORETELLING)):  # without labels and with them
        reading = replace(value, foretold=0.03, loss=replace(value.loss, flips_gained=gained))
        weighed = (weight * 0.5 * POINT + samples * 0.03) / (weight + samples)
        told = replace(counted, readings={"y": (reading,)})
        assert told.expected_loss(POINT) == pytest.approx(weighed)


def test_two_wrong_answers_of_a_hundred_decide_near_the_limit_alone() -> None:
    two = 2 / 123
    assert judgement(LIMIT, two, samples=123).expected_loss(POINT) > POINT
    assert judgement(0.3 * LIMIT, two, samples=123).expected_loss(POINT) <= POINT
    assert judgement(0.3 * LIMIT, two, samples=10_000).expected_loss(POINT) > POINT
    assert judgement(0.3 * LIMIT, 10 / 123, samples=123).expected_loss(POINT) > POINT


def test_a_metric_that_counts_nothing_decides_as_far_as_it_is_known() -> None:
    known, guessed = 0.001, 0.07  # halves of intervals
    assert judgement(0.1 * LIMIT, 1.1 * POINT, None, known, samples=3).expected_loss(POINT) > POINT
    assert judgement(3 * LIMIT, 0.9 * POINT, None, known, samples=3).expected_loss(POINT) <= POINT
    assert judgement(0.1 * LIMIT, 1.6 * POINT, None, guessed, samples=10_000).expected_loss(POINT) < 0.5 * POINT
    assert judgement(0.9 * LIMIT, 5 * POINT, None, guessed, samples=10_000).expected_loss(POINT) > POINT
    assert judgement(0.1 * LIMIT, 1.1 * POINT, None, math.inf, samples=3).expected_loss(POINT) == pytest.approx(
        1.1 * POINT
    )
    assert judgement(0.1 * LIMIT, 1.1 * POINT, None, 0.0, samples=3).expected_loss(POINT) == pytest.approx(1.1 * POINT)


def test_the_output_that_is_known_to_lose_decides() -> None:
    """Not the one whose loss is larger and not known at all."""
    noisy, sure = judgement(0.1 * LIMIT, 4 * POINT, None, 0.2), judgement(0.1 * LIMIT, 2 * POINT, None, 0.001)
    both = replace(noisy, readings={**noisy.readings, "z": sure.readings["y"]})
    assert both.expected_loss(POINT) == pytest.approx(2 * POINT, rel=0.05)


def test_what_is_no_number_speaks_against_it() -> None:
    assert judgement(0.0, math.nan, samples=3).expected_loss(POINT) > POINT
    assert judgement(math.inf, 0.0, samples=10_000).expected_loss(POINT) > POINT


# -- what a search makes of it -----------------------------------------------------------------------------------------


def of_fitted(damage: float, loss: float) -> Judgement:
    return replace(judgement(0.1 * LIMIT, 0.0), fitted=judgement(damage, loss))


def test_what_exceeds_on_samples_that_weights_were_fitted_to_exceeds() -> None:
    assert judgement(0.1 * LIMIT, 0.0).excess(POINT) == pytest.approx(0.1)
    assert of_fitted(0.05 * LIMIT, 0.0).excess(POINT) == pytest.approx(0.1)
    assert of_fitted(1.7 * LIMIT, 0.0).excess(POINT) == pytest.approx(1.7)
    assert of_fitted(0.5 * LIMIT, 5 * POINT).excess(POINT) > 1
    worst = of_fitted(1.7 * LIMIT, 0.0).worst(POINT)
    assert worst is not None
    assert worst.error == 1.7 * LIMIT


def test_the_standard_error_of_a_damage_is_added() -> None:
    known = judgement(0.9 * LIMIT, 0.0)
    (part,) = known.damage.parts
    vague = replace(known, damage=Damage((replace(part, standard_error=0.2 * LIMIT),)))
    assert known.excess(POINT) == pytest.approx(0.9)
    assert vague.excess(POINT) == pytest.approx(1.1)
