"""Boxes of the benchmark of shipped files: overlap, suppression, matching, and the parts of a map."""

from __future__ import annotations

import numpy as np
import pytest
from shipped.boxes import Boxes, Matches, match, overlaps, parts, suppress


def boxes(*corners: tuple[float, float, float, float], classes: list[int] | None = None) -> Boxes:
    """Boxes with falling scores."""
    count = len(corners)
    scores = np.linspace(0.9, 0.3, count)
    return Boxes(np.array(corners, dtype=float).reshape(-1, 4), np.array(classes or [0] * count, dtype=int), scores)


def test_overlap_is_shared_area_over_joint_area() -> None:
    one = np.array([[0.0, 0.0, 4.0, 3.0]])
    others = np.array([[0, 0, 4, 3], [2, 0, 6, 3], [2, 1, 5, 3], [4, 0, 8, 3], [9, 9, 9, 9]], dtype=float)
    assert overlaps(one, others)[0] == pytest.approx([1, 6 / 18, 4 / 14, 0, 0])


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert overlaps(empty, empty) == np.zeros((1, 1))


def test_suppression_keeps_the_best_of_those_that_overlap_by_more_than_the_limit() -> None:
    found = boxes((0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 10, 5), (20, 0, 30, 10))
    kept = suppress(found, 0.5)
    assert kept.corners.tolist() == [[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10]]
    assert suppress(found, 0.45).corners[:, 3].tolist() == [10, 10]


def test_suppression_is_not_a_chain() -> None:
    """The third overlaps only the second, which is gone already: it stays."""
    kept = suppress(boxes((0, 0, 10, 10), (3, 0, 13, 10), (6, 0, 16, 10)), 0.5)
    assert kept.corners[:, 0].tolist() == [0, 6]


def test_suppression_goes_by_score_not_by_order() -> None:
    rising = Boxes(np.array([[0, 0, 10, 9], [0, 0, 10, 10]], dtype=float), np.zeros(2, int), np.array([0.3, 0.8]))
    assert suppress(rising, 0.5).scores.tolist() == [0.8]


def test_a_box_is_matched_once_and_within_its_class() -> None:
    reference = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), classes=[0, 1, 1])
    found = boxes((0, 0, 10, 8), (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 4), classes=[0, 0, 0, 1])
    matches = match(reference, found)
    assert matches == Matches(reference=3, found=4, matched=1, overlap=1.0)
    assert matches.figures() == {
        "boxes": 3,
        "boxes_pruned": 4,
        "recall": pytest.approx(1 / 3),
        "precision": 0.25,
        "mean_iou": 1.0,
    }


def test_the_largest_overlap_is_matched_first() -> None:
    reference = boxes((0, 0, 10, 10), (0, 2, 10, 12))
    found = boxes((0, 2, 10, 12))
    assert match(reference, found) == Matches(2, 1, 1, 1.0)


def test_matches_add_up() -> None:
    total = Matches(3, 2, 1, 0.7) + Matches(1, 2, 2, 1.1)
    assert (total.reference, total.found, total.matched) == (4, 4, 3)
    assert total.figures()["mean_iou"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("given", "recall", "precision"),
    [(Matches(), 1.0, 1.0), (Matches(reference=3), 0.0, 0.0), (Matches(found=3), 1.0, 0.0)],
)
def test_nothing_to_find_and_nothing_found(given: Matches, recall: float, precision: float) -> None:
    assert given.figures()["recall"] == recall
    assert given.figures()["precision"] == precision


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_parts_of_a_map_are_boxed() -> None:
    found = parts(
        mask(
            "##...#.",
            "#...#..",
            ".......",
            "..###..",
        )
    )
    assert found.tolist() == [[0, 0, 2, 2], [2, 3, 5, 4], [4, 0, 6, 2]]


def test_arms_that_meet_later_are_one_part() -> None:
    found = parts(mask("#.#.#", "#.#.#", "#####"))
    assert found.tolist() == [[0, 0, 5, 3]]


def test_a_spiral_is_one_part() -> None:
    found = parts(mask("#####", "....#", "###.#", "#...#", "#####"))
    assert found.tolist() == [[0, 0, 5, 5]]


def test_an_empty_map_has_no_parts() -> None:
    assert parts(mask(".....", ".....")).shape == (0, 4)
