"""Whole runs whose result is quantized: budgets are those of the 8-bit file, and the plan has everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.budget.goals import Kind
from onnxmi.errors import CheckError, PlanError, UsageError
from onnxmi.graph.plan import load_plan
from onnxmi.model.external_data import byte_size
from onnxmi.model.load import proto_digest
from onnxmi.pruning import precision_choice
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession, start_session
from onnxmi.pruning.sweep import LEVELS
from onnxmi.quantization.quantize import PreparedModel, with_ranges
from onnxmi.quantization.recipe import RANGE_METHODS, Recipe
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.timing import Interval
from onnxmi.transforms.analysis import as_model
from tests.support.build import Build

INPUTS, HIDDEN = 29, 211


def mlp() -> onnx.ModelProto:
    b = Build(seed=9)
    inner = b.op("Relu", b.gemm(b.input("N", INPUTS), INPUTS, HIDDEN))
    return b.proto(b.gemm(b.op("Relu", b.gemm(inner, HIDDEN, HIDDEN)), HIDDEN, 7))


def samples(count: int = 307) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(11).normal(size=(count, INPUTS)).astype(np.float32)}


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let 8-bit models take 60 % of the time, whatever this machine says: decisions are then the same everywhere."""
    cost = precision_choice._Trials._cost

    def measured(self, before: onnx.ModelProto, after: onnx.ModelProto) -> float:
        return cost(self, before, after) if self._counted == ("size",) else byte_size(after) / byte_size(before) + 0.35

    monkeypatch.setattr(precision_choice._Trials, "_cost", measured)


def run(proto: onnx.ModelProto, **options) -> onnxmi.Result:
    return onnxmi.prune(proto, samples(), threads=1, latency=False, **options)


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_the_plan_makes_the_same_bytes_again(mode: str, untimed, tmp_path) -> None:
    proto = mlp()
    first = run(proto, keep=0.5, quantize=mode)
    assert first.plan.quantization is not None
    assert first.plan.quantization.mode == mode
    assert first.plan.quantization.int8
    plan = tmp_path / "a.plan.json"
    plan.write_text(first.plan.to_json())
    again = run(proto, plan=plan)
    assert again.digest == first.digest
    assert again.plan.to_json() == first.plan.to_json()
    applied = onnxmi.apply(proto, load_plan(plan))  # without samples, and so without the repair
    assert applied.digest == onnxmi.apply(proto, first.plan).digest
    assert {node.op_type for node in applied.model.graph.node} == {node.op_type for node in first.model.graph.node}
    assert applied.after.size == byte_size(applied.model)


@pytest.mark.parametrize(("share", "rounding"), [(-1e9, "moments"), (1.0, "nearest")])
def test_weights_are_rounded_by_moments_where_that_saves_its_share_of_the_damage(
    share: float, rounding: str, untimed, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(precision_choice, "LEAST_ROUNDING_GAIN", -1e9)
    monkeypatch.setattr(precision_choice, "LEAST_ROUNDING_SHARE", share)
    result = run(mlp(), keep=0.5, quantize="dynamic")
    assert result.plan.quantization is not None
    assert result.plan.quantization.rounding == rounding
    assert any("rounded by the moments" in note for note in result.notes) == (rounding == "moments")
    plan = tmp_path / "a.plan.json"
    plan.write_text(result.plan.to_json())
    assert run(mlp(), plan=plan).digest == result.digest
    unrepaired = run(mlp(), keep=0.5, quantize="dynamic", repair=False, force=True)
    assert unrepaired.plan.quantization is not None
    assert unrepaired.plan.quantization.rounding == "nearest"


def test_each_step_is_reported_beside_the_original(untimed) -> None:
    result = run(mlp(), keep=0.5, quantize="dynamic")
    original, pruned, int8 = result.contributions
    assert (original.size, original.damage) == (result.before.size, 0.0)
    assert original.size > 2 * pruned.size > 4 * int8.size
    assert int8.size == result.after.size == byte_size(result.model)
    assert pruned.damage > 0
    assert int8.damage == result.damage.total != pruned.damage
    assert result.after.parameters < result.before.parameters
    assert "What each step did" in str(result)
    told = result.to_dict()["quantization"]
    assert [step["name"] for step in told["steps"]] == ["original", "pruned", "pruned, 8-bit"]
    assert told["mode"] == "dynamic"
    assert {*told["int8"], *told["float"]} == {node.name for node in mlp().graph.node if node.op_type == "Gemm"}


def test_a_float_result_says_nothing_of_8_bits() -> None:
    result = run(mlp(), keep=0.5)
    assert result.contributions == ()
    assert result.to_dict()["quantization"] is None
    assert "quantization" not in result.plan.to_json()


def test_a_size_is_that_of_the_8_bit_file_and_takes_fewer_cuts_than_a_float_one(untimed) -> None:
    proto = mlp()
    size = byte_size(proto) // 3
    small = run(proto, max_size=size, quantize="dynamic", best_effort=True)
    assert 0.9 * size < small.after.size <= size or small.after.parameters == small.before.parameters
    assert small.after.parameters > run(proto, max_size=size).after.parameters


def test_a_size_that_8_bits_reach_alone_cuts_nothing(untimed) -> None:
    proto = mlp()
    result = run(proto, max_size=byte_size(proto) // 2, quantize="dynamic", repair=False)
    assert not [choice for choice in result.plan.choices if choice.count < choice.size]
    assert result.after.size <= byte_size(proto) // 2
    assert onnxmi.apply(proto, result.plan).digest == result.digest  # nothing was repaired


def test_a_loss_is_that_of_both_together(untimed) -> None:
    result = run(mlp(), max_drop=0.05, quantize="static")
    assert result.plan.quantization is not None
    assert any(trial.fits for trial in result.trials)
    feeds = samples(101)
    now = next(iter(open_session(result.model).run(feeds).values()))
    was = next(iter(open_session(mlp()).run(feeds).values()))
    assert (now.argmax(1) == was.argmax(1)).mean() > 0.85


def test_float_is_kept_where_8_bits_are_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_choice._Trials, "_cost", lambda self, before, after: 1.25)
    result = run(mlp(), keep=0.5, quantize="auto")
    assert result.plan.quantization is None
    assert any("float is best here (dynamic takes x 1.25" in note for note in result.notes)


def choice(proto: onnx.ModelProto, **options) -> precision_choice.PrecisionChoice:
    session = start_session(as_model(proto), samples(), PruneOptions(threads=1, **options))
    return precision_choice.choose_precision(session, proto)


def test_an_operator_whose_rounding_costs_more_than_its_time_stays_float(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight of a unit that never fires can be so large that the others of its column all round to zero."""
    monkeypatch.setattr(  # the 8-bit model is faster than the float one, and slower with one operator float again
        precision_choice._Trials, "_cost", lambda self, before, after: 0.9 if before is self._proto else 1.05
    )
    proto = mlp()
    first, second, _ = (node for node in proto.graph.node if node.op_type == "Gemm")
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}

    def change(name: str, value: float) -> None:
        values = onnx.numpy_helper.to_array(stored[name]).copy()
        values[..., 0] = value
        stored[name].CopyFrom(onnx.numpy_helper.from_array(values, name))

    change(first.input[2], -1e6)
    change(second.input[1], 1e5)
    chosen = choice(proto, quantize="dynamic").precision
    assert chosen is not None
    assert chosen.recipe.left_float == (second.name,)
    harmless = choice(mlp(), quantize="dynamic").precision
    assert harmless is not None
    assert harmless.recipe.left_float == ()


def test_of_the_modes_the_cheaper_is_taken_damage_and_time_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in ("dynamic", "static"):

        def cost(self, before: onnx.ModelProto, after: onnx.ModelProto, fast: str = fast) -> float:
            operators = {node.op_type for node in after.graph.node}
            return 0.5 if ("MatMulInteger" in operators) == (fast == "dynamic") else 0.7

        monkeypatch.setattr(precision_choice._Trials, "_cost", cost)
        chosen = choice(mlp(), quantize="auto").precision
        assert chosen is not None
        assert chosen.recipe.mode == fast


@dataclass(frozen=True)
class Ratio:
    """A latency as far as a trial reads it: how many times as fast as another, and where that lies."""

    speedup: float
    low: float
    high: float

    def speedup_over(self, other: object) -> float:
        return self.speedup

    def speedup_interval(self, other: object) -> Interval:
        return Interval(self.low, self.high)


@pytest.mark.parametrize(("half_width", "left_float"), [(0.01, 1), (0.3, 0)])
def test_an_operator_stays_float_for_its_time_only_where_that_is_sure(
    half_width: float, left_float: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = mlp()

    def time_of(proto: onnx.ModelProto) -> float:
        """0.8 with every product in 8 bits, 0.7 with the last one float, else 1."""
        floats = [sorted(stored.dims) for stored in proto.graph.initializer if stored.data_type == stored.FLOAT]
        matrices = [sizes for sizes in floats if len(sizes) == 2]
        return {0: 0.8, 1: 0.7 if matrices == [[7, HIDDEN]] else 1.0}.get(len(matrices), 1.0)

    def measured(_: object, after: onnx.ModelProto, before: onnx.ModelProto, seconds: float) -> tuple[Ratio, Ratio]:
        speedup = time_of(before) / time_of(after)
        return Ratio(1.0, 1.0, 1.0), Ratio(speedup, speedup - half_width, speedup + half_width)

    monkeypatch.setattr(PruningSession, "decisive_time", measured)
    chosen = choice(proto, quantize="dynamic").precision
    assert chosen is not None
    assert len(chosen.recipe.left_float) == left_float


@pytest.mark.parametrize(("cost", "mode"), [("size", "dynamic"), ("macs", "static")])
def test_a_sweep_of_8_bit_models_begins_with_one_that_is_not_pruned(cost: Kind, mode: str, untimed) -> None:
    proto = mlp()
    curve = onnxmi.sweep(proto, samples(), by=cost, quantize=mode, threads=1)
    whole, *others = curve.points
    assert whole.cost.macs == curve.dense.macs
    assert whole.cost.size < 0.4 * curve.dense.size
    assert len(others) >= 5
    assert all(first.cost.size > second.cost.size for first, second in pairwise(curve.points))
    if cost == "size":
        assert all(point.cost.size / curve.dense.size <= point.share + 0.03 for point in curve.points)
    assert any(note.startswith(f"quantized: {mode}, 3 of 3") for note in curve.notes)


def test_a_sweep_of_float_models_is_what_it_was(untimed) -> None:
    curve = onnxmi.sweep(mlp(), samples(), by="macs", threads=1)
    assert len(curve.points) + len(curve.skipped) == len(LEVELS)
    assert curve.points[0].cost.macs < curve.dense.macs
    assert not any("quantized" in note for note in curve.notes)


def test_a_lost_output_is_refused(untimed) -> None:
    proto = mlp()
    good = run(proto, keep=0.9, quantize="static").plan
    assert good.quantization is not None
    narrow = dict.fromkeys(good.quantization.ranges, (0.0, 0.0001))
    bad = replace(good, quantization=replace(good.quantization, ranges=narrow))
    with pytest.raises(CheckError, match="is lost"):
        run(proto, plan=bad)


def test_a_plan_that_names_other_operators_is_refused() -> None:
    proto = mlp()
    plan = run(proto, keep=0.5, quantize="dynamic").plan
    assert plan.quantization is not None
    other = replace(plan, quantization=replace(plan.quantization, int8=("elsewhere",)))
    for call in (lambda: onnxmi.apply(proto, other), lambda: run(proto, plan=other)):
        with pytest.raises(PlanError, match="'elsewhere'"):
            call()


def test_what_does_not_go_together_is_refused() -> None:
    proto = mlp()
    plan = run(proto, keep=0.5, quantize="dynamic").plan
    with pytest.raises(UsageError, match="the plan says how to quantize"):
        run(proto, plan=plan, quantize="static")
    with pytest.raises(UsageError, match="no quantization 'int8'"):
        run(proto, quantize="int8")


def test_a_mode_that_quantizes_nothing_is_refused() -> None:
    b = Build(seed=2)
    inner = b.op("Relu", b.conv(b.input("N", 3, 9, 9), 3, 17))
    proto = b.proto(b.op("GlobalAveragePool", b.conv(inner, 17, 5)))
    arrays = {"x": np.random.default_rng(1).normal(size=(203, 3, 9, 9)).astype(np.float32)}
    with pytest.raises(CheckError, match="--quantize dynamic: the model has no operator"):
        onnxmi.prune(proto, arrays, keep=0.5, quantize="dynamic", threads=1, latency=False)


def test_a_quantized_result_is_what_was_digested(untimed) -> None:
    result = run(mlp(), keep=0.5, quantize="dynamic")
    assert proto_digest(result.model) == result.digest


def test_ranges_are_found_once_for_each_method_however_many_recipes_are_tried(
    untimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(prepared: PreparedModel, recipe: Recipe, feeds: Iterable[Feeds]) -> Recipe:
        asked.append(recipe.calibration)
        return with_ranges(prepared, recipe, feeds)

    monkeypatch.setattr(precision_choice, "with_ranges", counted)
    assert choice(mlp(), quantize="static").precision is not None
    assert sorted(asked) == sorted(RANGE_METHODS)
