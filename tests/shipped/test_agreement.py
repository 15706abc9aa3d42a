"""Answers of the benchmark of shipped files: active cells, CTC's lines and their edits, and the families' judges."""

from __future__ import annotations

import numpy as np
import pytest
from shipped.agreement import edit_distance, error_rate, f1, greedy, same_top


def test_f1_counts_cells_that_are_on() -> None:
    reference = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool)
    found = np.array([1, 1, 0, 1, 0, 0, 0], dtype=bool)
    assert f1(reference, found) == pytest.approx(2 / 3)
    assert f1(reference, ~reference) == 0.0
    assert f1(np.zeros(3, bool), np.zeros(3, bool)) == 1.0


def scores(*lines: list[int], classes: int = 5) -> np.ndarray:
    return np.eye(classes)[np.array(lines)]


def test_repeats_are_one_unless_a_blank_lies_between() -> None:
    read = greedy(scores([0, 3, 3, 0, 3, 2, 2], [1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0], [4, 0, 0, 4, 1, 4, 0]))
    assert read == [(3, 3, 2), (1,), (), (4, 4, 1, 4)]


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("abc", "bca", 2),
        ("abcdef", "axcdf", 2),
    ],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert edit_distance(one, other) == edits
    assert edit_distance(other, one) == edits


def test_error_rate_is_edits_over_symbols_of_the_reference() -> None:
    assert error_rate([("kitten", "sitting"), ("abcd", "abcd")]) == pytest.approx(0.3)
    assert error_rate([("", "")]) == 0.0
    assert error_rate([("", "a")]) == 1.0


def test_same_top_class() -> None:
    reference = np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    found = np.array([[0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    assert same_top(reference, found).tolist() == [True, False, True]
