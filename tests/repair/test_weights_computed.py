"""Weights that are not plain stored matrices: cast, turned, computed where the model runs, or quantised."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxmi.axes.keeping import Keeping
from onnxmi.graph.linear import Linear, find_linears, weights_of
from onnxmi.repair import StepOptions, repair_one_pass
from onnxmi.repair.quantized import quantize_solutions
from onnxmi.repair.regression import Solution
from onnxmi.transforms.prune_channels import Replacement, prune_channels
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import Case, run

IN, WIDTH, OUT = 7, 13, 5
Weight = Callable[[Build], str]


def float_weight(b: Build) -> np.ndarray:
    return (b.rng.normal(size=(WIDTH, OUT)) / np.sqrt(WIDTH)).astype(np.float32)


def plain(b: Build) -> str:
    return b.const(float_weight(b))


def identity(b: Build) -> str:
    return b.op("Identity", plain(b))


def turned(b: Build) -> str:
    return b.op("Transpose", b.const(float_weight(b).T.copy()), perm=[1, 0])


def half(b: Build) -> str:
    name = b.name("half")
    b.initializers[name] = float_weight(b).astype(np.float16)
    return b.op("Cast", name, to=onnx.TensorProto.FLOAT)


def standardised(b: Build) -> str:
    """Each output's weights divided by their norm, where the model runs."""
    stored = plain(b)
    norm = b.op("ReduceL2", stored, axes=[0], keepdims=1)
    return b.op("Div", stored, norm)


def quantised(b: Build, per_channel: bool = True) -> str:
    weight = float_weight(b)
    scale = np.abs(weight).max(axis=0 if per_channel else None) / 100  # room for what repair adds
    scales, zero = b.const(scale), b.const(np.zeros(np.shape(scale), np.int8))
    return b.op("DequantizeLinear", b.const(np.rint(weight / scale).astype(np.int8)), scales, zero, axis=1)


def one_scale(b: Build) -> str:
    return quantised(b, per_channel=False)


def asymmetric(b: Build) -> str:
    """Unsigned, with a zero point of its own for each output."""
    weight = float_weight(b)
    low, scale = weight.min(axis=0), np.ptp(weight, axis=0) / 180
    zero = np.clip(np.rint(-low / scale) + 30, 0, 255)
    stored = np.clip(np.rint(weight / scale) + zero, 0, 255).astype(np.uint8)
    stored[0, 0], stored[1, 0] = 0, 255  # room for what repair adds
    return b.op("DequantizeLinear", b.const(stored), b.const(scale), b.const(zero.astype(np.uint8)), axis=1)


def quantised_and_turned(b: Build) -> str:
    stored = b.const(np.rint(float_weight(b).T * 100).astype(np.int8))
    made = b.op("DequantizeLinear", stored, b.const(np.float32(0.01)), b.const(np.int8(0)))
    return b.op("Transpose", made, perm=[1, 0])


WEIGHTS: dict[str, Weight] = {
    made.__name__: made for made in (plain, identity, turned, half, standardised, quantised, one_scale, asymmetric)
}


def model(weight: Weight, *, bias: str = "none") -> onnx.ModelProto:
    b = Build(seed=11)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    if bias == "quantised":  # as in a Gemm between quantisers
        vector = b.const(np.array([3, -5, 7, 11, -2], np.int32))
        stored = b.op("DequantizeLinear", vector, b.const(np.float32(0.01)), b.const(np.int32(0)), axis=0)
        return b.proto(b.op("Gemm", hidden, weight(b), stored))
    made = b.op("MatMul", hidden, weight(b))
    return b.proto(made if bias == "none" else b.op("Add", made, b.vector(OUT)))


def last(case: Case) -> Linear:
    return find_linears(case.model.graph, case.graph)[-1]


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_weights_are_those_that_the_operator_sees(name: str) -> None:
    case = Case.of(model(WEIGHTS[name]))
    linear = last(case)
    matrix = weights_of(case.model, linear)
    assert matrix.shape == (1, WIDTH, OUT)
    feeds = case.feeds()
    taps = [linear.taps[0], linear.key]
    from_session = {k: np.asarray(v) for k, v in _values(case.model.proto, taps, feeds).items()}
    np.testing.assert_allclose(from_session[taps[0]] @ matrix[0], from_session[taps[1]], rtol=1e-4, atol=1e-5)
    assert linear.obstacle is None


def _values(proto: onnx.ModelProto, taps: list[str], feeds: object) -> dict[str, np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in taps)
    return dict(zip(taps, run(copy, feeds), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", ["none", "added", "quantised"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_repair_is_written_back(name: str, bias: str, bench: type[Bench]) -> None:
    """Both repairs come nearer to the original than the plain cut; the step-by-step one saw what it stored."""
    scene = bench(model(WEIGHTS[name], bias=bias))
    keeping = scene.keep()
    made = scene.stepwise(keeping, StepOptions(everywhere=False))
    assert [note.used for note in made.notes] == [True]
    # The smallest step of a coarse bias is what is left of a constant error.
    assert scene.error(keeping, made.replacements) < 0.8 * scene.error(keeping)


@pytest.mark.parametrize("name", ["turned", "standardised"])
def test_what_computed_a_replaced_weight_goes(name: str, bench: type[Bench]) -> None:
    scene = bench(model(WEIGHTS[name]))
    keeping = scene.keep()
    repaired = prune_channels(scene.cut(keeping), scene.stepwise(keeping).replacements)
    onnx.checker.check_model(repaired, full_check=True)
    assert not {"Transpose", "Div", "ReduceL2"} & {node.op_type for node in repaired.graph.node}
    stored = [tuple(tensor.dims) for tensor in repaired.graph.initializer if len(tensor.dims) == 2]
    assert sorted(stored) == [(WIDTH // 2 + 1, OUT), (IN, WIDTH // 2 + 1)]


def test_quantised_weights_stay_quantised(bench: type[Bench]) -> None:
    """With the same scales, in the same range; so a bias with the product of the scales stays right."""
    scene = bench(model(quantised, bias="quantised"))
    keeping = scene.keep()
    repaired = prune_channels(scene.cut(keeping), scene.stepwise(keeping).replacements)
    before, after = ({t.name: numpy_helper.to_array(t) for t in p.graph.initializer} for p in (scene.proto, repaired))
    kinds = sorted(str(array.dtype) for array in after.values())
    assert kinds == sorted(str(array.dtype) for array in before.values())
    (old,) = [array for array in before.values() if array.dtype == np.int8 and array.ndim == 2]
    (new,) = [array for array in after.values() if array.dtype == np.int8 and array.ndim == 2]
    assert old.min() <= new.min()
    assert new.max() <= old.max()
    assert not np.array_equal(new, old[::2])


def test_a_rounded_repair_is_used_only_where_it_is_better(bench: type[Bench]) -> None:
    """With scales so coarse that every weight is -1, 0 or 1 there is nothing between the plain cut and noise."""

    def coarse(b: Build) -> str:
        weight = np.sign(float_weight(b)).astype(np.int8)
        return b.op("DequantizeLinear", b.const(weight), b.const(np.float32(0.3)), b.const(np.int8(0)))

    scene = bench(model(coarse, bias="added"))
    keeping = scene.keep()
    made = scene.stepwise(keeping)
    assert scene.error(keeping, made.replacements) <= scene.error(keeping) * 1.001


def test_a_weight_that_is_also_read_elsewhere_is_scored_but_not_replaced() -> None:
    """A tied embedding: the output layer reads the table turned."""
    b = Build(seed=3)
    table = b.weight(11, WIDTH)
    hidden = b.op("Gather", table, b.input("N", 5, name="ids", dtype=np.int64))
    hidden = b.op("Relu", b.dense(hidden, WIDTH, WIDTH))
    case = Case.of(b.proto(b.op("MatMul", hidden, b.op("Transpose", table, perm=[1, 0]))))
    linear = last(case)
    assert linear.features == WIDTH
    assert linear.obstacle == "its weight is computed from one that is also used by other operators"


def test_a_weight_made_of_a_number_is_not_stored() -> None:
    b = Build(seed=3)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    value = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [0.5])
    case = Case.of(b.proto(b.op("MatMul", hidden, b.op("ConstantOfShape", b.ints(WIDTH, OUT), value=value))))
    assert last(case).obstacle == "its weight is not stored"


def test_the_same_weight_behind_two_identities_is_one_operator() -> None:
    """Exporters name a shared weight anew for each layer."""
    b = Build(seed=3)
    weight = b.weight(IN, IN)
    x = b.op("Relu", b.op("MatMul", b.input("N", IN), b.op("Identity", weight)))
    case = Case.of(b.proto(b.op("Relu", b.op("MatMul", x, weight))))
    graph = case.model.graph
    assert [len(linear.nodes) for linear in find_linears(graph, case.graph)] == [2]


def test_one_pass_repair_of_a_computed_weight(bench: type[Bench]) -> None:
    scene = bench(model(standardised))
    keeping = scene.keep()
    made = repair_one_pass(scene.cut(keeping), scene.statistics())
    assert all(isinstance(one, Replacement) for one in made.replacements)
    assert scene.error(keeping, made.replacements) < 0.8 * scene.error(keeping)


def test_a_network_on_a_stored_table_is_scored_and_repaired(bench: type[Bench]) -> None:
    """Relative positions go through a small network of their own, whatever the model is fed."""
    b = Build(seed=5)
    table = b.op("Relu", b.dense(b.op("Neg", b.const(b.rng.normal(size=(23, 3)))), 3, 17))
    bias = b.dense(table, 17, OUT)
    scene = bench(b.proto(b.op("Add", b.dense(b.input("N", 23, IN), IN, OUT), bias)))
    linear = next(one for one in scene.linears if one.features == 17)
    assert linear.obstacle is None
    keeping = scene.keep()
    assert scene.error(keeping, scene.stepwise(keeping).replacements) < 0.8 * scene.error(keeping)


def test_a_product_that_makes_another_operators_weight_goes_with_it(bench: type[Bench]) -> None:
    """A low-rank update is added to a weight where the model runs."""
    b = Build(seed=5)
    hidden = b.op("Relu", b.dense(b.input("N", IN), IN, WIDTH))
    update = b.op("MatMul", b.op("Neg", b.weight(WIDTH, 3)), b.weight(3, OUT))
    scene = bench(b.proto(b.op("MatMul", hidden, b.op("Add", plain(b), update))))
    assert [linear.features for linear in scene.linears] == [IN, WIDTH]
    keeping = scene.keep()
    made = scene.stepwise(keeping).replacements
    assert scene.error(keeping, made) < 0.8 * scene.error(keeping)
    repaired = prune_channels(scene.cut(keeping), made)
    assert [node.op_type for node in repaired.graph.node].count("MatMul") == 2


def in_blocks(b: Build) -> str:
    """A scale for every block of inputs."""
    b.opset = 21
    stored = b.const(b.rng.integers(-100, 100, size=(WIDTH - 1, OUT)).astype(np.int8))
    scale = b.const(b.rng.uniform(0.001, 0.01, size=(4, OUT)))
    made = b.op("DequantizeLinear", stored, scale, axis=0, block_size=3)
    return b.op("Pad", made, b.ints(0, 0, 1, 0))


@pytest.mark.parametrize("weight", [quantised_and_turned, in_blocks])
def test_integers_that_cannot_be_written_back_stay_integers(weight: Weight, bench: type[Bench]) -> None:
    scene = bench(model(weight))
    assert scene.linears[-1].obstacle == "its weight is quantized in a way that cannot be written"
    keeping = Keeping({layer.id: kept for layer, kept in zip(scene.graph.layers, scene.keep().values(), strict=True)})
    repaired = prune_channels(scene.cut(keeping), scene.stepwise(keeping).replacements)
    assert "DequantizeLinear" in {node.op_type for node in repaired.graph.node}


def test_a_bias_that_others_read_stays_theirs(bench: type[Bench]) -> None:
    """One vector in half precision, cast once, is the bias of two operators."""
    b = Build(seed=5)
    vector = b.name("half")
    b.initializers[vector] = b.rng.normal(size=OUT).astype(np.float16)
    bias = b.op("Cast", vector, to=onnx.TensorProto.FLOAT)
    x = b.input("N", IN)
    hidden = b.op("Relu", b.dense(x, IN, WIDTH))
    first = b.op("Add", b.op("MatMul", hidden, b.weight(WIDTH, OUT, fan_in=WIDTH)), bias)
    other = b.op("Add", b.op("MatMul", x, b.weight(IN, OUT, fan_in=IN)), bias)
    scene = bench(b.proto(first, other))
    keeping = scene.keep()
    repaired = prune_channels(scene.cut(keeping), scene.stepwise(keeping).replacements)
    before, after = (run(proto, {"x": scene.data.arrays["x"]})[1] for proto in (scene.model.proto, repaired))
    np.testing.assert_allclose(after, before, rtol=1e-5)
    assert scene.error(keeping, scene.stepwise(keeping).replacements) < 0.8 * scene.error(keeping)


@pytest.mark.parametrize("worse", [False, True])
def test_what_rounding_spoils_is_not_used(worse: bool) -> None:
    """The error of what will be stored decides, and what rounding moves the mean by goes into the bias."""
    plain, solved, rounded = (np.full((2, 1), value) for value in (1.0, 2.0, 3.0))
    coded = SimpleNamespace(linear=SimpleNamespace(weights=SimpleNamespace(scheme="some")))
    operator_cut = SimpleNamespace(**vars(coded), rounded=lambda _: [rounded], plain=lambda _: plain)
    told = {1.0: 4.0, 3.0: 5.0 if worse else 2.0}
    regression = SimpleNamespace(
        plain=plain, fit=SimpleNamespace(mean_x=np.array([0.25, 0.5])), error=lambda weights, _: told[weights[0, 0]]
    )
    solution = Solution(solved, np.array([0.5]), 1e-3, 1.0, 0.1, used=True)
    (made,) = quantize_solutions(operator_cut, [solution], [regression])  # type: ignore[arg-type,list-item]
    assert made.used is not worse
    np.testing.assert_array_equal(made.weights, plain if worse else rounded)
    np.testing.assert_allclose(made.shift, [0.0] if worse else [0.5 - 0.75])
