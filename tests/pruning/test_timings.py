"""Times that a result rests on: kept in the plan, and replayed to the same bytes."""

from __future__ import annotations

import json
from itertools import count

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import PlanError, UsageError
from onnxmi.graph.plan import load_plan
from onnxmi.pruning import latency_cache
from onnxmi.pruning.timings import Timings, structure
from onnxmi.runtime import stopwatch
from onnxmi.runtime.timing import Latency
from tests.support.build import Build


def network() -> onnx.ModelProto:
    b = Build(seed=11)
    x = b.op("Relu", b.conv(b.input("N", 3, 7, 5), 3, 23))
    x = b.op("Relu", b.conv(x, 23, 29))
    return b.proto(b.gemm(b.op("Flatten", b.op("GlobalAveragePool", x)), 29, 7))


@pytest.fixture
def samples() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(3).normal(size=(211, 3, 7, 5)).astype(np.float32)}


@pytest.fixture
def clock(monkeypatch) -> list[int]:
    """Times by the size of a model, and no two alike; what was timed is noted."""
    noise = np.random.default_rng(5)
    timed: list[int] = []

    def measure(protos, *_args, **_how):
        timed.append(len(protos))
        sizes = [proto.ByteSize() for proto in protos]
        return tuple(Latency(size / sizes[0] * noise.uniform(0.8, 1.2, 9)) for size in sizes)

    def cuts(_analysis, draws, *_args):
        timed.append(len(draws))
        return 1.0, np.array([noise.uniform(0.2, 1.0) for _ in draws])

    monkeypatch.setattr(stopwatch, "measure_latency", measure)
    monkeypatch.setattr(latency_cache, "time_cuts", cuts)
    return timed


HOW = {"speedup": 1.3, "fresh": True, "threads": 1, "best_effort": True, "force": True}


def test_a_budget_of_time_is_replayed_to_the_same_bytes(samples, clock, tmp_path):
    first = onnxmi.prune(network(), samples, **HOW)
    first.save(tmp_path / "first.onnx")
    clock.clear()
    again = onnxmi.prune(network(), samples, **HOW, timings=tmp_path / "first.plan.json")
    assert again.digest == first.digest
    assert again.plan.to_json() == first.plan.to_json()
    assert not clock
    assert any("none was measured" in note for note in again.notes)


def test_what_the_plan_has_no_times_of_is_measured_and_said(samples, clock, tmp_path):
    first = onnxmi.prune(network(), samples, **HOW)
    first.save(tmp_path / "first.onnx")
    clock.clear()
    other = onnxmi.prune(network(), samples, **HOW, batch=3, timings=tmp_path / "first.plan.json")
    assert clock  # longer runs are other times
    assert any("were measured now" in note for note in other.notes)


def test_a_result_that_rests_on_no_times_has_none_in_its_plan(samples, clock, tmp_path):
    onnxmi.prune(network(), samples, keep=0.5, threads=1).save(tmp_path / "kept.onnx")
    assert clock == [2]  # for the report
    assert "timings" not in (tmp_path / "kept.plan.json").read_text()
    with pytest.raises(UsageError, match="this plan has no times"):
        onnxmi.prune(network(), samples, **HOW, timings=str(tmp_path / "kept.plan.json"))


def test_times_of_another_model_are_refused(samples, clock, tmp_path):
    onnxmi.prune(network(), samples, **HOW).save(tmp_path / "first.onnx")
    other = Build(seed=12)
    proto = other.proto(other.gemm(other.op("Relu", other.gemm(other.input("N", 13), 13, 17)), 17, 5))
    with pytest.raises(UsageError, match="is of a model with digest"):
        onnxmi.prune(proto, samples, **HOW, timings=tmp_path / "first.plan.json")


@pytest.mark.parametrize("times", [[], [[]], [[0.0]], [["a"]], [[float("nan")]], 3])
def test_times_that_are_none_are_refused(times, samples, clock, tmp_path):
    onnxmi.prune(network(), samples, **HOW).save(tmp_path / "first.onnx")
    path = tmp_path / "first.plan.json"
    document = json.loads(path.read_text())
    document["timings"] = {"key": times}
    path.write_text(json.dumps(document))
    with pytest.raises(PlanError):
        load_plan(path)


def test_times_are_measured_once_in_a_run():
    numbers = count(1)
    timings = Timings()
    assert timings.of(["a"], [1], lambda: [[float(next(numbers))]]) == [[1.0]]
    assert timings.of(["a"], [1], lambda: [[float(next(numbers))]]) == [[1.0]]
    assert timings.of(["b"], [1], lambda: [[float(next(numbers))]]) == [[2.0]]


@pytest.mark.parametrize(
    ("given", "counts"), [([[1.0, 2.0]], [1]), ([[1.0], [2.0]], [1]), ([[1.0, 2.0], [3.0]], [None, None])]
)
def test_too_few_or_too_many_times_are_not_used(given, counts):
    first = Timings()
    first.of(["a"], counts, lambda: given)
    timings = Timings(first.used)
    assert timings.of(["a"], counts, lambda: [[9.0]]) == [[9.0]]
    assert len(timings.missing) == 1


def test_a_model_is_known_by_its_shapes_not_by_the_values_of_its_weights():
    one, other, wider = Build(seed=1), Build(seed=2), Build(seed=1)
    protos = [b.proto(b.gemm(b.input("N", 13), 13, width)) for b, width in ((one, 5), (other, 5), (wider, 7))]
    digests = [structure(proto) for proto in protos]
    assert digests[0] == digests[1] != digests[2]
