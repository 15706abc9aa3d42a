"""Losses as they are printed, and what the samples can say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.answers import (
    answers,
    of,
    read,
)


def test_a_loss_in_words():
    subject, original = of("classes", np.eye(2)[np.arange(238) % 2] * 4, "softmax")
    made = np.eye(2)[np.arange(238) % 2] * 4
    made[:3] *= -1
    labels = (np.arange(238) % 2).copy()
    labels[3:5] = 1 - labels[3:5]
    made[3:5] *= -1
    loss = read("accuracy", subject, original, answers(made), labels).loss
    assert loss.text == "0.4 points lost [-1.9, 2.9] on 238 samples (3 answers lost, 2 gained)"
    assert [loss.against(margin) for margin in (0.05, 0.01)] == ["within", "undecided"]
    assert loss.doubt(0.01) == "undecided: 238 samples cannot tell 1 point; they resolve about 2.1"
    assert loss.doubt(0.05) == ""


def test_no_flip_on_few_samples_is_no_certainty():
    subject, original = of("classes", np.eye(2)[np.arange(31) % 2] * 4, "softmax")
    loss = read("certain-agreement", subject, original, original).loss
    assert loss.value == 0
    assert loss.high == pytest.approx(1 - 0.025 ** (1 / 31))
    assert loss.against(0.01) == "undecided"
