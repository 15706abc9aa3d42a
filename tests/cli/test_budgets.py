"""Budgets from the command line, on the bundled models and a small one."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest

from onnxmi.pruning.session import PruningSession
from onnxmi.pruning.sizing import SizingProblem
from onnxmi.runtime.timing import Latency

THREAD = ("--threads", "1")


@pytest.fixture
def resnet(place, bundled):
    for name in ("digits-resnet.onnx", "digits-resnet.calib.npz"):
        shutil.copy(bundled / name, place.folder)
    return place


RESNET = ("prune", "digits-resnet.onnx", "digits-resnet.calib.npz", *THREAD)


def goals(told: dict) -> dict[str, tuple[float, bool]]:
    return {goal["name"]: (goal["reached"], goal["met"]) for goal in told["goals"]}


@pytest.mark.parametrize(
    ("option", "asked", "of"),
    [("--macs", "0.3", "macs"), ("--params", "0.4", "parameters"), ("--max-size", "100kB", "size")],
)
def test_a_cost_is_reached_and_hardly_more(resnet, option, asked, of):
    told = json.loads(resnet.succeeds(*RESNET, option, asked, "--json"))
    reached, met = goals(told)[option]
    assert met
    after, before = told["after"][of], told["before"][of]
    wanted = 100_000 if of == "size" else float(asked) * before
    assert after <= wanted
    assert after >= 0.8 * wanted
    assert reached == pytest.approx(after if of == "size" else after / before)


def test_several_costs_hold_together_and_the_file_is_that_small(resnet):
    text = resnet.succeeds(*RESNET, "--macs", "0.6", "--max-size", "90kB", "-o", "small.onnx")
    assert (resnet.folder / "small.onnx").stat().st_size <= 90_000
    assert text.count(" met") == 2
    assert "--max-size" in text


def test_layers_are_not_cut_alike(resnet):
    told = json.loads(resnet.succeeds(*RESNET, "--macs", "0.3", "--json"))
    shares = {layer["after"] / layer["before"] for layer in told["layers"]}
    assert len(shares) > 1


def test_alignment_is_kept_to(resnet):
    told = json.loads(resnet.succeeds(*RESNET, "--macs", "0.4", "--align", "6", "--json"))
    assert all(layer["after"] % 6 == 0 for layer in told["layers"])


def test_a_budget_that_is_met_already_leaves_nothing_to_do(resnet):
    assert "the model meets the budget as it is" in resnet.fails(1, *RESNET, "--max-size", "10MB")
    resnet.succeeds(*RESNET, "--max-size", "10MB", "--allow-unchanged")


def test_out_of_reach_says_what_is_nearest(resnet):
    message = resnet.fails(1, *RESNET, "--max-size", "10B")
    assert re.fullmatch(
        r"out of reach: --max-size 10B: the nearest is \d+\.\d kB \(use --best-effort to take it\)", message
    )


def test_the_nearest_is_taken_on_request_and_told(resnet):
    text = resnet.succeeds(*RESNET, "--max-size", "10B", "--best-effort", "--force")
    assert re.search(r"--max-size 10B:\s+missed", text)
    assert (resnet.folder / "digits-resnet.pruned.onnx").exists()


def test_a_loss_beside_a_cost_is_a_condition(resnet):
    wild = (*RESNET, "--macs", "0.06")
    assert "out of reach: --max-drop 0.001: the other budgets lose" in resnet.fails(1, *wild, "--max-drop", "0.001")
    told = json.loads(resnet.succeeds(*RESNET, "--macs", "0.8", "--max-drop", "0.5", "--json"))
    assert goals(told)["--max-drop"][1]


def test_without_a_budget_at_most_a_point_is_lost_and_that_is_said(resnet):
    text = resnet.succeeds(*RESNET)
    flat = " ".join(text.split())
    assert re.search(r"quality accuracy .* points lost .*; at most 1% lost \(default\): (met|undecided)", flat)
    assert "step by step" not in text


def test_trials_are_listed_on_request(resnet):
    result = resnet.run(*RESNET, "--verbose")
    assert result.exit_code == 0
    assert "step by step" in result.stdout


def test_trials_are_told_and_the_metric_is_the_one_asked_for(resnet):
    told = json.loads(resnet.succeeds(*RESNET, "--max-drop", "0.02", "--metric", "agreement", "--json"))
    assert told["metric"] == "agreement"
    assert told["trials"]
    assert all(trial["damage"] <= 0.04 for trial in told["trials"] if trial["fits"])
    assert goals(told)["--max-drop"][0] == pytest.approx(1.0 - told["quality"]["agreement"], abs=1e-9)


_HARSH = """
SEEN = []

def harsh(outputs, labels):
    SEEN.append(outputs)
    return float((outputs == SEEN[0]).all())
"""


def test_a_metric_of_ones_own(resnet):
    (resnet.folder / "mine.py").write_text(_HARSH)
    message = resnet.fails(1, *RESNET, "--metric", "mine:harsh")
    assert message.startswith("nothing to prune: every cut that was tried loses more than 0.01")
    assert "mine:harsh" in message


def test_a_model_is_not_faster_than_itself(resnet, monkeypatch):
    """Where every model seems twice as fast as asked for, limits are loosened, but not until nothing is cut."""
    was, now = (Latency(np.full(30, time)) for time in (4.0, 1.0))
    monkeypatch.setattr(PruningSession, "time", lambda self, proto: (was, now))
    told = json.loads(resnet.succeeds(*RESNET, "--speedup", "1.05", "--json"))
    assert goals(told)["--speedup"][1]
    assert any(layer["after"] < layer["before"] for layer in told["layers"])


def test_a_speed_is_asked_for(resnet):
    """Whether it can be reached depends on the machine: either it is, or the nearest is told."""
    result = resnet.run(*RESNET, "--speedup", "1.05", "--json")
    assert result.exit_code in (0, 1)
    if result.exit_code == 0:
        assert goals(json.loads(result.stdout))["--speedup"][1]
    else:
        assert "out of reach: --speedup 1.05: the nearest is" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "0.5", "--macs", "0.5"), "it cannot be combined with --macs"),
        (("--speedup", "0.5"), "--speedup 0.5 is out of range: expected a factor above 1"),
        (("--latency", "soon"), "'soon' is not a time such as 5ms"),
        (("--max-size", "tiny"), "'tiny' is not a size"),
        (("--max-drop", "2"), "--max-drop 2 is out of range: expected points"),
        (("--align", "odd"), "--align 'odd': expected auto, none or a whole number"),
        (("--metric", "f1"), "needs labels"),
        (("--metric", "beauty"), "beauty"),
        (("--plan", "p.json", "--macs", "0.5"), "--macs cannot be combined with --plan"),
    ],
)
def test_what_cannot_be_asked_for(place, samples, options, message):
    np.savez(place.folder / "plain.npz", x=samples())
    assert message in place.fails(2, "prune", "model.onnx", "plain.npz", *THREAD, *options)


# -- the whole curve --------------------------------------------------------------------------------------------------

SWEEP = ("sweep", "digits-resnet.onnx", "digits-resnet.calib.npz", *THREAD, "--by", "macs")


def test_a_sweep_writes_no_model_and_goes_down(resnet):
    before = resnet.contents().keys()
    told = json.loads(resnet.succeeds(*SWEEP, "--at", "0.3,0.6", "--json"))
    assert resnet.contents().keys() == before
    assert [point["target"] for point in told["points"]] == [0.6, 0.3]
    shares = [point["macs"] / told["dense"]["macs"] for point in told["points"]]
    assert all(share <= asked for share, asked in zip(shares, (0.6, 0.3), strict=True))
    assert told["points"][0]["relative_error"] < told["points"][1]["relative_error"]


def test_a_sweep_as_a_table_a_spreadsheet_and_a_page(resnet):
    text = resnet.succeeds(*SWEEP, "--at", "0.5,0.00001", "--csv", "curve.csv", "--report", "curve.html")
    assert "less than the layers can be cut to" in text
    assert max(map(len, text.splitlines())) <= 80
    rows = list(csv.DictReader((resnet.folder / "curve.csv").open()))
    assert [row["target"] for row in rows] == ["1.0", "0.5"]
    assert (resnet.folder / "curve.html").read_text().startswith("<!DOCTYPE html>")


def test_a_sweep_scores_as_a_prune_can(place, bundled):
    for name in ("digits-mlp.onnx", "digits-mlp.calib.npz"):
        shutil.copy(bundled / name, place.folder)
    mlp = ("sweep", "digits-mlp.onnx", "digits-mlp.calib.npz", *THREAD, "--by", "macs", "--at", "0.4")

    def errors(*options: str) -> list[float]:
        told = json.loads(place.succeeds(*mlp, "--no-repair", "--json", *options))
        return [point["relative_error"] for point in told["points"]]

    scored = {
        name: tuple(errors(*options))
        for name, options in {
            "joint": (),
            "labels": ("--target", "labels"),
            "alike": ("--no-sensitivity",),
            "binned": ("--score", "pairwise", "--estimator", "binned"),
            "pairwise": ("--score", "pairwise"),
        }.items()
    }
    assert len(set(scored.values())) == len(scored)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--at", "half"), "'half' is not a list of shares"),
        (("--at", "0.5,1.5"), "every share has to be between 0 and 1"),
        (("--by", "beauty"), "'beauty' is not one of"),
        (("--csv", "a", "--report", "a"), "a: "),
    ],
)
def test_what_a_sweep_cannot_do(resnet, options, message):
    assert message in resnet.fails(2, *SWEEP, *options)


def test_where_the_time_does_not_depend_on_sizes_work_is_cut(place, monkeypatch):
    least = SizingProblem.least
    monkeypatch.setattr(SizingProblem, "least", lambda self, kind: 1.0 if kind == "time" else least(self, kind))
    result = place.run("prune", "model.onnx", "calib.npz", *THREAD, "--max-drop", "0.9", "--force")
    assert result.exit_code == 0
    assert "the time hardly depends on the layers' sizes: multiply-accumulates are cut instead" in " ".join(
        result.stdout.split()
    )
