"""The trade-off curve: shares of the original, the metric that is known, and the place of the run."""

from __future__ import annotations

import pytest

from onnxmi.errors import DataError, UsageError
from onnxmi.reporting.html import render
from onnxmi.reporting.html.curve import read_sweep, read_trials
from onnxmi.reporting.html.plots import trade_off
from onnxmi.reporting.html.reading import read_run
from onnxmi.reporting.html.svg import settings
from onnxmi.reporting.html.wording import NOTHING, decimal, percent, speed


@pytest.fixture
def known(run):
    return read_run(run, "run.json")


def test_costs_are_shares_of_the_original(sweep):
    curve = read_sweep(sweep, "sweep.json")
    assert [(p.label, p.macs, p.size, p.parameters, p.speedup) for p in curve.points] == [
        ("keep 0.25", 0.25, 0.25, 0.25, 4.0),
        ("keep 0.5", 0.5, 0.5, 0.5, 2.0),
        ("keep 0.75", 0.75, 0.75, 0.75, 1 / 0.75),
    ]
    assert [point.quality for point in curve.points] == pytest.approx([0.77, 0.82, 0.87])
    assert (curve.metric, curve.dense, curve.here) == ("accuracy", 0.92, None)


def test_without_the_original_the_run_says_what_is_whole(sweep, known):
    del sweep["dense"]
    curve = read_sweep(sweep, "sweep.json", known)
    assert [point.macs for point in curve.points] == [0.25, 0.5, 0.75]
    assert curve.dense is None


def test_the_run_has_a_place_where_it_was_measured_alike(sweep, known):
    here = read_sweep(sweep, "sweep.json", known).here
    assert here is not None
    assert (here.macs, here.size, here.speedup, here.quality) == (0.35, 0.3, 2.0, 0.9)
    for point in sweep["points"]:
        point["metric"] = "f1"
    assert read_sweep(sweep, "sweep.json", known).here is None


@pytest.mark.parametrize(
    ("present", "metric", "dense"),
    [
        ({"agreement": 0.9, "accuracy": 0.8}, "accuracy", None),
        ({"agreement": 0.9}, "same top answer", 1.0),
        ({"drop": 0.1}, "drop in quality", 0.0),
        ({"drop": 0.1, "metric": "f1"}, "drop in f1", 0.0),
        ({}, "drop in quality", 0.0),
    ],
)
def test_the_most_telling_measure_that_is_there(present, metric, dense):
    curve = read_sweep({"points": [{"keep": 0.5, **present}]}, "sweep.json")
    assert (curve.metric, curve.dense) == (metric, dense)


def test_what_was_tried_for_a_budget(run, known):
    curve = read_trials(run, "run.json", known)
    assert curve is not None
    assert [(p.label, p.macs, p.size, p.quality) for p in curve.points] == [
        ("share 0.5", 0.35, 0.3, 0.02),
        ("share 0.7", 0.55, 2300 / 4400, 0.01),
    ]
    assert read_trials({**run, "trials": []}, "run.json", known) is None


def test_the_metric_may_be_named_once(sweep):
    for point in sweep["points"]:
        del point["metric"]
    sweep["metric"] = "top5"
    assert read_sweep(sweep, "sweep.json").metric == "top5"


def test_what_is_not_drawn_is_not_explained(run, sweep, read):
    full = read(render(run, "run.json", (sweep, "sweep.json"))).text
    assert "The square is the original, the diamond is this result" in full
    del sweep["dense"]["value"], run["quality"]
    text = read(render(run, "run.json", (sweep, "sweep.json"))).text
    assert "diamond" not in text


def test_trials_that_say_only_what_they_aimed_at(run, known, read):
    tried = ((0.5, 0.03, "one pass"), (0.5, 0.02, "step by step"), (0.4, 0.05, "one pass"))
    trials = [{"share": s, "drop": d, "error": 0.01, "repair": how, "fits": True} for s, d, how in tried]
    run |= {"trials": trials, "metric": "accuracy"}
    curve = read_trials(run, "run.json", known)
    assert curve is not None
    assert (curve.metric, curve.joined) == ("drop in accuracy", False)
    assert {(point.label, point.share) for point in curve.points} == {
        ("share 0.5, one pass", 0.5), ("share 0.5, step by step", 0.5), ("share 0.4, one pass", 0.4),
    }  # fmt: skip
    assert "Drop in accuracy against share of the cost aimed at" in read(render(run, "run.json")).text


@pytest.mark.parametrize("key", ["goals", "budget"])
def test_goals_one_by_one(run, read, key):
    run[key] = [
        {"name": "macs", "asked": 0.4, "reached": 0.35, "met": True},
        {"name": "speedup", "asked": 3.0, "reached": 2.0, "met": False},
    ]
    text = read(render(run, "run.json")).text
    assert "macs asked 0.4, reached 0.35: met speedup asked 3, reached 2: not met" in text


def test_one_drawing_for_each_cost_that_is_known_of_two(sweep):
    del sweep["points"][0]["speedup"], sweep["points"][1]["speedup"]
    with settings():
        group = trade_off(read_sweep(sweep, "sweep.json"))
    assert group is not None
    assert [plot.caption for plot in group.plots] == [
        "Accuracy against multiply-accumulates left",
        "Accuracy against file size left",
    ]
    assert group.table.rows[0] == ("keep 0.25", "25%", "25%", "25%", NOTHING, "0.7700")


def test_a_sweep_alone_is_a_page(sweep, read):
    made = read(render(sweep, "sweep.json"))
    assert len(made.all("svg")) == 5
    assert "model.onnx" in made.text
    assert "25%: 77%; 50%: 82%; 75%: 87%." in made.text


@pytest.mark.parametrize("points", [[], [{}], [{"keep": 0.5, "macs": 3, "value": None}]])
def test_a_sweep_that_found_nothing_is_a_page(read, points):
    made = read(render({"points": points}, "sweep.json"))
    assert not made.all("svg")


@pytest.mark.parametrize(
    "broken", [{}, {"points": {}}, {"points": [3]}, {"points": [{"macs": "3"}]}, {"points": [], "dense": 3}]
)
def test_something_else_is_refused(run, broken):
    with pytest.raises(DataError, match=r"^sweep\.json: "):
        render(run, "run.json", (broken, "sweep.json"))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1.0, "100%"), (0.99996, "99.9%"), (0.992, "99.2%"), (0.98, "98%"), (0.0123, "1.2%"), (1e-9, "<0.1%"),
     (1.0004, "100.0%"), (1.5, "150.0%"), (12.0, "1200%"), (None, NOTHING)],
)  # fmt: skip
def test_all_and_nothing_are_said_only_of_all_and_nothing(share, text):
    assert percent(share) == text


def test_other_numbers():
    assert [speed(value) for value in (2.0, 0.5, 0.0, None)] == [
        "2.00\N{MULTIPLICATION SIGN} faster",
        "2.00\N{MULTIPLICATION SIGN} slower",
        NOTHING,
        NOTHING,
    ]
    assert [decimal(value) for value in (0.0, 0.5, 1e-9, 3e9, None)] == ["0.0000", "0.5000", "1e-09", "3e+09", NOTHING]


def test_a_sweep_of_another_model_is_refused(run, sweep):
    sweep["model"] = {"sha256": "0f" * 32}
    with pytest.raises(UsageError, match=r"^sweep.json: is a sweep of another model than run.json: SHA-256 0f0f"):
        render(run, "run.json", (sweep, "sweep.json"))
    sweep["model"] = run["model"]
    render(run, "run.json", (sweep, "sweep.json"))
