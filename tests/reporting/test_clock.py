"""The clock of a run: where it is, how much is done, and how long the rest takes, on runs that were recorded."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.stages import Stage, stages_of_prune, stages_of_sweep
from onnxmi.reporting import clock as clock_module
from onnxmi.reporting import progress
from onnxmi.reporting.clock import SURE, Clock, duration
from onnxmi.reporting.progress import progress_bars, verbosity


class Time:
    """A clock that is set by hand."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


STAGES = (Stage("a", "doing a", 1.0), Stage("b", "doing b", 2.0), Stage("c", "doing c", 1.0))


def names(stages: list[Stage]) -> list[str]:
    return [stage.name for stage in stages]


def test_the_time_left_is_that_of_the_stage_and_of_those_after_it() -> None:
    now = Time()
    clock = Clock(STAGES, now)
    assert (clock.share, clock.left, clock.line) == (0.0, None, "reading the model and the samples")
    now.seconds += 20
    assert clock.advance("a", 5, 5)
    assert clock.share == pytest.approx(0.25)
    assert clock.left == pytest.approx(3 * 20)
    assert clock.advance("b", 1, 10)
    now.seconds += 12
    assert not clock.advance("b", 3, 10)
    # b takes 12 / 0.3 in all; c takes as long as a unit of weight so far: 32 s for 1.6
    assert clock.left == pytest.approx(12 / 0.3 * 0.7 + 32 / 1.6)
    assert clock.line == "stage 2 of 3, doing b: 3 of 10"
    assert clock.rest == "about 48 s left"


def test_stages_that_nobody_expected_and_stages_passed_over() -> None:
    clock = Clock(STAGES, Time())
    clock.advance("b", 1, 2)
    assert clock.line == "stage 2 of 3, doing b: 1 of 2"
    clock.advance("select", 1, 2)
    assert clock.line == "stage 3 of 4, choosing units: 1 of 2"
    clock.advance("c", 2, 2)
    assert clock.share == pytest.approx(1.0)
    clock.advance("a", 0, 0)
    assert clock.line == "stage 5 of 5, a: 0 of 1"


def test_the_stages_of_a_run() -> None:
    measuring, pricing = ["capture", "go back"], ["rank", "predict damage", "price"]
    assert names(stages_of_prune(PruneOptions())) == [*measuring, *pricing, "time", "search", "verify"]
    assert names(stages_of_prune(PruneOptions(keep=0.5))) == [*measuring, "select", "repair", "verify"]
    unmeasured = PruneOptions(keep=0.5, repair=False, score="magnitude", quantize="auto")
    assert names(stages_of_prune(unmeasured)) == ["select", "quantize", "verify"]
    given = stages_of_prune(PruneOptions(macs=0.5), given_statistics=True)
    assert names(given) == [*pricing, "select", "repair", "verify"]
    assert "time" in names(stages_of_prune(PruneOptions(speedup=2)))
    assert names(stages_of_prune(PruneOptions(), given_plan=True)) == [*measuring, "repair", "verify"]
    assert names(stages_of_prune(PruneOptions(keep=0.5), by_workers=True))[0] == "measure shards"
    assert names(stages_of_sweep(PruneOptions(score="pairwise", estimator="binned"), timed=False, by_workers=True))[
        0
    ] == ("capture")
    assert names(stages_of_sweep(PruneOptions(), timed=False))[-2:] == ["price", "sweep"]


@pytest.mark.parametrize("name", sorted(json.loads(Path(__file__).with_name("recorded_runs.json").read_text())))
def test_the_time_left_is_about_right_after_a_tenth_of_a_recorded_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time of one thread, of runs on trained models."""
    monkeypatch.setattr(clock_module, "LEAST", 0.0)
    run = json.loads(Path(__file__).with_name("recorded_runs.json").read_text())[name]
    now = Time()
    now.seconds = 0.0
    clock = Clock(stages_of_prune(PruneOptions(**run["options"])), now)
    factors = []
    for stage, done, total, seconds in run["events"]:
        now.seconds = seconds
        clock.advance(stage, done, total)
        if clock.left is not None and seconds >= SURE * run["seconds"] and seconds < 0.9 * run["seconds"]:
            estimate = seconds + clock.left
            factors.append(max(estimate / run["seconds"], run["seconds"] / estimate))
    assert factors
    assert sorted(factors)[len(factors) // 2] < 1.5


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (99, "99 s"), (100, "2 min"), (3540, "59 min"), (4800, "1 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_comes_without_a_terminal_however_long_a_step_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.02)
    with progress_bars(STAGES) as advance:
        advance("b", 1, 10)
        deadline = time.monotonic() + 20
        while "stage 2 of 3, doing b: 1 of 10" not in (text := capsys.readouterr().err):
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
    with verbosity(-1), progress_bars(STAGES) as advance:
        advance("b", 1, 10)
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
