"""The gallery's pages are what was measured, and say one number for one thing."""

from __future__ import annotations

import pytest

from tools.exhibits import pages, quality
from tools.exhibits.entries import ENTRIES


def test_the_pages_are_those_of_the_results(tmp_path, monkeypatch):
    there = {path.name: path.read_text(encoding="utf-8") for path in pages.FOLDER.glob("*.md")}
    for run in (run for result in pages.read_results().values() for run in result["runs"] if run["exit_code"] == 0):
        (tmp_path / run["report"]).touch()
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    pages.write_all()
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    assert made == there
    assert set(made) == {"index.md", *(f"{name}.md" for name in ENTRIES)}


def test_a_shipped_models_judge_has_what_its_loss_is_made_of():
    fetched = {entry.model for entry in ENTRIES.values() if "/" not in entry.model}
    assert fetched == set(quality.JUDGED)


def test_answers_that_are_the_originals_are_shares_of_its_own():
    found = quality.of_figures(quality.JUDGED["nudenet"], {"boxes": 211, "recall": 197 / 211, "speedup": 1.7})
    assert found["before"] == 1
    assert found["lost"] == pytest.approx(14 / 211)
    low, high = found["interval"]
    assert 0 < low < 14 / 211 < high < 0.15


def test_answers_that_changed_for_the_better_widen_the_interval():
    """Of 1,009 lines 4 more are wrong; with more changes to both sides, less is known about the difference."""
    judged = quality.JUDGED["angle"]
    spans = []
    for changed in (6, 46):
        shares = {"accuracy_original": 987 / 1009, "accuracy": 983 / 1009, "agreement": 1 - changed / 1009}
        found = quality.of_figures(judged, {"lines": 1009, **shares})
        assert found["lost"] == pytest.approx(4 / 1009)
        spans.append(found["interval"][1] - found["interval"][0])
    assert spans[0] < spans[1] / 1.5


def test_onnxmis_own_figures_are_not_said_twice():
    figures = {
        "boxes": 211,
        "recall": 0.9,
        "mean_iou": 0.93,
        "speedup": 2.2,
        "bytes_pruned": 7,
        "reference_ms_median": 3,
    }
    assert quality.rest(quality.JUDGED["nudenet"], figures) == {"mean_iou": 0.93}
