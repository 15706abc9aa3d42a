"""What may be asked for, and when it counts as reached."""

from __future__ import annotations

import pytest

from onnxmi.budget.goals import Budget, Goal, option
from onnxmi.errors import UsageError


def test_nothing_asked_is_a_search_for_one_point() -> None:
    assert (Budget().searches, Budget().drop, Budget().costs) == (True, 0.01, ())


def test_a_loss_alone_is_searched_and_beside_a_cost_is_a_condition() -> None:
    assert Budget(max_drop=0.03).searches
    both = Budget(max_drop=0.03, macs=0.5, speedup=2.0)
    assert (both.searches, both.drop, both.costs) == (False, 0.03, ("macs", "speedup"))
    assert Budget(macs=0.5).drop is None


@pytest.mark.parametrize("name", ["max_size", "params", "macs", "speedup", "max_latency"])
def test_a_uniform_share_does_not_go_with_a_cost(name: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be combined with {option(name)}"):
        Budget(keep=0.5, **{name: 2.0 if name in ("speedup", "max_latency") else 1}).check()


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"keep": 0.0}, "--keep 0 is out of range: expected a share"),
        ({"keep": 1.1}, "--keep 1.1 is out of range: expected a share"),
        ({"macs": float("nan")}, "--macs nan is out of range: expected a share"),
        ({"params": -0.1}, "--params -0.1 is out of range: expected a share"),
        ({"speedup": 1.0}, "--speedup 1 is out of range: expected a factor above 1"),
        ({"max_latency": 0.0}, "--latency 0 is out of range: expected a time"),
        ({"max_drop": 0.0}, "--max-drop 0 is out of range: expected points"),
        ({"max_drop": 1.5}, "--max-drop 1.5 is out of range: expected points"),
    ],
)
def test_out_of_range(asked: dict[str, float], wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        Budget(**asked).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "asked", "reached", "met"),
    [
        ("max_size", 1000, 1000, True),
        ("max_size", 1000, 1001, False),
        ("macs", 0.5, 0.5001, False),
        ("speedup", 2.0, 1.97, True),
        ("speedup", 2.0, 1.95, False),
        ("max_latency", 5.0, 5.09, True),
        ("max_latency", 5.0, 5.11, False),
        ("max_drop", 0.01, 0.011, False),
        ("max_drop", 0.01, -0.5, True),
    ],
)
def test_when_it_is_met(name: str, asked: float, reached: float, met: bool) -> None:
    assert Goal.of(name, asked, reached).met is met


def test_the_shortfall_is_a_factor_of_cost() -> None:
    assert Goal.of("speedup", 3.0, 2.0).violation == 1.5
    assert Goal.of("macs", 0.4, 0.5).violation == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("name", "asked", "reached", "verdict"),
    [
        ("speedup", 2.0, 2.01, "met"),
        ("speedup", 2.0, 1.99, "within noise"),
        ("speedup", 2.0, 1.9996, "met"),
        ("speedup", 2.0, 1.9, "missed"),
        ("max_latency", 5.0, 5.05, "within noise"),
        ("max_latency", 5.0, 4.9, "met"),
        ("max_latency", 5.0, 5.5, "missed"),
        ("macs", 0.5, 0.5, "met"),
        ("macs", 0.5, 0.51, "missed"),
    ],
)
def test_met_is_only_said_of_what_is(name: str, asked: float, reached: float, verdict: str) -> None:
    assert Goal.of(name, asked, reached).verdict == verdict
