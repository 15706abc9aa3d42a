"""How many answers are expected to change, by their margins."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.evaluation.output_metrics import expected_flips
from onnxmi.evaluation.output_metrics.near_errors import chances_to_stay
from tests.support.answers import (
    CASES,
    FRAMES,
    RNG,
    answers,
    noisy,
    of,
    read,
)


def test_expected_flips_are_as_many_as_errors_of_one_size_make():
    logits = np.random.default_rng(0).normal(size=(4001, 2)) * 3
    subject, original = of("classes", logits, "softmax")
    made = noisy(logits, 0.4)
    found = expected_flips(subject, original, answers(made))
    assert found is not None
    assert found.share == pytest.approx(np.mean(logits.argmax(1) != made.argmax(1)), rel=0.15)
    assert found.text == f"{100 * found.share:.1f} % of the answers are expected to change, by margins"


def test_only_errors_of_answers_that_may_change_count():
    """Large logits with large errors, as most frames of a text have, change nothing."""
    logits = np.concatenate([np.tile([0.0, 1.0], (1009, 1)), np.tile([0.0, 90.0], (1009, 1))])
    off = np.concatenate([np.tile([2.0, 0.0], 505)[:1009], np.full(1009, 20.0)])
    found = expected_flips(*of("classes", logits, "softmax"), answers(logits + off[:, None] * [1, 0]))
    assert found is not None
    assert found.share == pytest.approx(0.25, rel=0.05)  # half of those that are near a border


@pytest.mark.parametrize("name", ["one score", "decisions", "tags", "text"])
def test_equal_answers_are_expected_to_stay(name):
    subject, original = CASES[name]
    same = expected_flips(subject, original, original)
    assert same is not None
    assert (same.share, same.of_samples) == (0.0, name == "text")
    spread = np.std(np.stack(original.values["y"]))
    other = expected_flips(
        subject, original, answers([noisy(a, spread, n) for n, a in enumerate(original.values["y"])])
    )
    assert other is not None
    assert 0.05 < other.share <= 1


def test_decisions_have_their_distance_from_even_for_a_margin():
    subject, original = of("classes", np.full((7, 1), -1.0), "sigmoid")
    made = np.array([[-1.0], [0.1], [-1.0], [0.1], [-3.0], [-0.1], [0.1]])
    found = expected_flips(subject, original, answers(made))
    assert found is not None
    assert found.share == pytest.approx(3 / 7)


def test_lines_change_if_any_of_their_characters_does():
    subject, original = CASES["text"]
    made = answers([noisy(a, 0.05, n) for n, a in enumerate(original.values["y"])])
    frames = expected_flips(*of("classes", FRAMES, "softmax", (2,)), made)
    lines = expected_flips(subject, original, made)
    assert lines is not None
    assert frames is not None
    assert 0 < 5 * frames.share < lines.share
    assert lines.text.endswith("% of the samples are expected to change at some position, by margins")


def test_outputs_that_choose_nothing_have_no_margins():
    assert expected_flips(*CASES["values"], CASES["values"][1]) is None


# -- the loss that margins foretell ------------------------------------------------------------------------------------


def test_few_answers_take_all_errors_in_turn():
    margins, errors = RNG.normal(size=7), RNG.normal(size=7)
    pairs = (margins[:, None] + errors >= 0).mean(1)
    np.testing.assert_allclose(chances_to_stay(margins, errors), pairs)
    assert chances_to_stay(np.zeros(0), np.zeros(0)).shape == (0,)


def test_each_answer_takes_the_errors_of_those_that_are_as_far_from_changing():
    margins = np.arange(1.0, 402.0) * np.tile([1.0, -1.0], 201)[:401]
    found = chances_to_stay(margins, np.where(np.abs(margins) <= 200, 1000.0, 0.0))
    np.testing.assert_allclose(found[:100], 1)
    np.testing.assert_allclose(found[300:], margins[300:] > 0)


def drawn(number: int, samples: int):
    """Logits of three classes, labels that they mostly get right, and logits of a model that is off."""
    generator = np.random.default_rng(number)
    labels = generator.integers(0, 3, samples)
    logits = generator.normal(size=(samples, 3)) + 2.5 * np.eye(3)[labels]
    return logits, logits + 0.5 * generator.normal(size=logits.shape), labels


@pytest.mark.parametrize("name", ["accuracy", "agreement", "certain-agreement"])
def test_the_likely_loss_is_that_of_many_samples_and_steadier_than_a_count(name):
    def told(number: int, samples: int) -> tuple[float, float]:
        logits, made, labels = drawn(number, samples)
        found = read(name, *of("classes", logits, "softmax"), answers(made), labels if name == "accuracy" else None)
        assert found.foretold is not None
        return found.foretold, found.loss.value

    truth = told(0, 40_009)[1]
    likely, counted = np.array([told(number, 101) for number in range(1, 101)]).T
    assert likely.mean() == pytest.approx(truth, rel=0.15)
    assert likely.std() < 0.8 * counted.std()


def test_decisions_on_each_class_have_a_likely_loss():
    subject, original = CASES["decisions"]
    made = answers([noisy(a, 0.3, n) for n, a in enumerate(original.values["y"])])
    found = read("agreement", subject, original, made)
    assert found.foretold == pytest.approx(found.loss.value, abs=0.02)
    right = [(a > 0).astype(np.int64) for a in original.values["y"]]
    assert read("accuracy", subject, original, made, np.stack(right)).foretold == pytest.approx(found.foretold)


def test_a_label_a_row_chooses_among_decisions():
    logits, made, labels = drawn(5, 401)
    found = read("accuracy", *of("classes", logits, "sigmoid"), answers(made), labels)
    assert found.was == pytest.approx(np.mean(logits.argmax(1) == labels))
    same = read("accuracy", *of("classes", logits, "softmax"), answers(made), labels)
    assert found.foretold == pytest.approx(same.foretold)


def test_what_is_no_number_or_no_class_is_lost():
    logits, _, labels = drawn(3, 31)
    subject, original = of("classes", logits, "softmax")
    assert read("agreement", subject, original, answers(np.full((31, 3), np.nan))).foretold == pytest.approx(1)
    found = read("accuracy", subject, original, original, np.where(labels == 0, 7, labels))  # a class that is not there
    assert found.foretold == pytest.approx(0)


def test_maps_of_many_cells_are_counted():
    subject, original = of("map", np.zeros((2, 3, 401, 401)), "softmax", (1,))
    assert read("agreement", subject, original, original).foretold is None
