"""How time is measured: with a clock and a session that the test drives, so that nothing depends on the machine."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
import pytest
from scipy.stats import binom

from onnxmi.errors import UsageError
from onnxmi.runtime import timing
from onnxmi.runtime.timing import Interval, Latency, measure_latency, median_interval, quantile_interval


class Machine:
    """Sessions whose runs take a known time, on a clock that nothing else moves."""

    def __init__(self, monkeypatch, *durations):
        self.now = 0
        self.durations = durations  # a function of the run's number, in ms, each
        self.order: list[int] = []
        self.fed: dict[int, object] = {}
        self.settings: list[dict] = []
        self.opened = 0
        monkeypatch.setattr(timing, "open_session", self.open)
        monkeypatch.setattr(timing, "CLOCKS", {"wall": lambda: self.now, "cpu": lambda: self.now})
        monkeypatch.setattr(timing.time, "monotonic", lambda: self.now / 1e9)

    def open(self, _proto, **settings):
        machine, index = self, self.opened % len(self.durations)
        self.opened += 1
        self.settings.append(settings)

        class Session:
            def run(self, feeds):
                machine.fed[index] = feeds
                machine.now += int(machine.durations[index](machine.order.count(index)) * 1e6)
                machine.order.append(index)

        return Session()


def test_models_run_in_turn_after_a_warm_up(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.0, lambda _: 2.0, lambda _: 4.0)
    timed = measure_latency([onnx.ModelProto()] * 3, {}, runs=7, seconds=60)
    assert [model.times.tolist() for model in timed] == [[1.0] * 7, [2.0] * 7, [4.0] * 7]
    turns = [machine.order[i : i + 3] for i in range(9, len(machine.order), 3)]
    assert len(turns) == 7
    assert all(sorted(turn) == [0, 1, 2] for turn in turns)
    assert len(set(map(tuple, turns))) > 1, "the order within a turn has to change"
    assert Counter(machine.order[:9]) == {0: 3, 1: 3, 2: 3}


def test_the_order_comes_from_the_seed(monkeypatch):
    orders = []
    for seed in (0, 0, 1):
        machine = Machine(monkeypatch, lambda _: 1.0, lambda _: 1.0)
        measure_latency([onnx.ModelProto()] * 2, {}, runs=20, seed=seed)
        orders.append(machine.order)
    assert orders[0] == orders[1] != orders[2]


def test_a_slow_model_is_warmed_up_once_and_measured_six_times(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 5000.0)
    assert len(measure_latency([onnx.ModelProto()], {}, seconds=3)[0].times) == 6
    assert len(machine.order) == 7


def test_the_first_run_is_not_measured(monkeypatch):
    Machine(monkeypatch, lambda run: 100.0 if run == 0 else 1.0)
    assert measure_latency([onnx.ModelProto()], {}, runs=5, seconds=60)[0].times.max() == 1.0


@pytest.mark.parametrize(("noise", "least", "most"), [(0.01, 80, 80), (0.2, 81, 399)])
def test_measuring_goes_on_until_the_intervals_are_narrow(monkeypatch, noise, least, most):
    rng = np.random.default_rng(0)
    Machine(monkeypatch, lambda _: 1.0, lambda _: rng.uniform(1 - noise, 1 + noise))
    one, other = measure_latency([onnx.ModelProto()] * 2, {}, runs=400, seconds=60, precision=0.02)
    assert least <= len(one.times) <= most
    interval = other.speedup_interval(one)
    assert (interval.high - interval.low) / 2 / other.speedup_over(one) <= 0.02


def test_without_a_precision_all_runs_are_made(monkeypatch):
    Machine(monkeypatch, lambda _: 1.0)
    assert len(measure_latency([onnx.ModelProto()], {}, runs=400, seconds=60)[0].times) == 400


def test_models_are_loaded_and_warmed_up_anew_on_request(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.0, lambda _: 1.0)
    assert len(measure_latency([onnx.ModelProto()] * 2, {}, runs=10, seconds=60, reload=4)[0].times) == 10
    assert machine.opened == 2 * 3
    assert len(machine.order) == 2 * (10 + 3 * 3)


def test_each_model_may_have_inputs_of_its_own(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.0, lambda _: 1.0)
    measure_latency([onnx.ModelProto()] * 2, [{"a": 1}, {"b": 2}], runs=5)
    assert machine.fed == {0: {"a": 1}, 1: {"b": 2}}


def test_threads_are_pinned_and_spin_as_those_of_deployed_sessions(monkeypatch):
    machine = Machine(monkeypatch, lambda _: 1.0)
    measure_latency([onnx.ModelProto()], {}, threads=3, runs=5)
    assert machine.settings == [{"threads": 3, "spin": True}]


@pytest.mark.parametrize("threads", [0, 2])
def test_the_cpu_clock_counts_one_thread_only(threads):
    with pytest.raises(UsageError, match="threads=1"):
        measure_latency([], {}, threads=threads, clock="cpu")


def test_a_real_model_is_timed(mlp, samples):
    timed = measure_latency([mlp(), mlp()], {"x": samples(3)}, threads=1, runs=6, clock="cpu")
    assert [len(model.times) for model in timed] == [6, 6]
    assert all((model.times > 0).all() for model in timed)


# -- what is made of the times ----------------------------------------------------------------------------------------


def test_ratios_are_taken_turn_by_turn():
    slow, fast = Latency(np.array([10.0, 30.0, 20.0])), Latency(np.array([1.0, 10.0, 20.0]))
    assert fast.speedup_over(slow) == 3.0, "not 2, the ratio of the medians"
    assert fast.median == 10.0
    assert fast.p95 == pytest.approx(19.0)
    assert fast.spread == pytest.approx((15 - 5.5) / 2)


@pytest.mark.parametrize("quantile", [0.5, 0.95])
@pytest.mark.parametrize("count", [1, 5, 6, 31, 72, 73, 500])
def test_an_interval_leaves_out_at_most_half_of_five_percent_on_each_side(count, quantile):
    values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))  # the k-th smallest is k
    found = quantile_interval(values, quantile)
    below = binom(count, quantile).cdf  # of how many values lie below the quantile
    low = 0 if math.isinf(found.low) else int(found.low)
    high = count + 1 if math.isinf(found.high) else int(found.high)
    assert below(low - 1) <= 0.025 < below(low)
    assert 1 - below(high - 1) <= 0.025 < 1 - below(high - 2)


def test_too_few_runs_tell_nothing():
    assert quantile_interval(np.arange(5.0), 0.5) == Interval(-math.inf, math.inf)
    assert quantile_interval(np.arange(71.0), 0.95).high == math.inf
    assert quantile_interval(np.arange(73.0), 0.95).high == 72.0


def test_the_interval_of_a_median_is_that_of_the_medians_of_loads():
    loads = np.repeat(np.arange(8.0), 10)  # within a load all runs are alike: 80 runs tell no more than 8
    assert median_interval(loads, 10) == quantile_interval(np.arange(8.0), 0.5) == Interval(0.0, 7.0)
    assert median_interval(loads[:79], 10) == quantile_interval(loads[:79], 0.5)
    assert Latency(loads, 10).interval() == Interval(0.0, 7.0)
    assert Latency(np.ones(80), 10).speedup_interval(Latency(loads)) == Interval(0.0, 7.0)


def test_outliers_move_an_interval_no_further_than_any_other_value():
    calm = np.arange(100.0)
    busy = np.where(calm > 90, 1e6, calm)
    assert quantile_interval(calm, 0.5) == quantile_interval(busy, 0.5)
