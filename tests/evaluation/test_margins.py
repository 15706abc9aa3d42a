"""How many answers are expected to change, by their margins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from onnxmi.evaluation.output_metrics import (
    expected_flips,
)
from tests.support.answers import (
    CASES,
    FRAMES,
    answers,
    noisy,
    of,
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
    logits = np.concatenate([np.tile([0.0, 1.0], (101, 1)), np.tile([0.0, 90.0], (101, 1))])
    made = logits + np.concatenate([np.full(101, 0.5), np.full(101, 20.0)])[:, None] * [1, 0]
    found = expected_flips(*of("classes", logits, "softmax"), answers(made))
    assert found is not None
    assert found.share == pytest.approx(stats.norm.cdf(-2) / 2)


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
    found = expected_flips(subject, original, answers(np.full((7, 1), 0.0)))
    assert found is not None
    assert found.share == pytest.approx(stats.norm.cdf(-1))


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
