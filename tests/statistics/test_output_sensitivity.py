"""What the outputs mind: against closed forms, and what it changes in a choice."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.evaluation.yardstick import Yardstick
from onnxmi.information import Sensitivity
from onnxmi.model import Graph
from onnxmi.pruning.options import PruneOptions
from onnxmi.runtime.session import open_session
from onnxmi.statistics import output_sensitivity
from onnxmi.statistics.backward import Backward
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.output_sensitivity import measure_sensitivities
from onnxmi.statistics.statistics_file import load_statistics, save_statistics
from onnxmi.transforms.analysis import analyze
from tests.support.build import Build
from tests.support.measure import yardstick_of

MS = "com.microsoft"
RNG = np.random.default_rng(3)


def measured(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], masks: tuple[str, ...] = ()) -> dict:
    analysis = analyze(proto)
    data = as_calibration(arrays, analysis.model)
    count = len(next(iter(arrays.values())))
    found = measure_sensitivities(analysis, data, np.arange(count), yardstick(proto, arrays, masks),
        CaptureOptions(threads=1, mask=masks[0] if masks else None),
    )  # fmt: skip
    return {linear.label: found.get(linear.key) for linear in analysis.linears}


def yardstick(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], masks: tuple[str, ...] = ()) -> Yardstick:
    analysis = analyze(proto)
    return yardstick_of(analysis, as_calibration(arrays, analysis.model), masks)


def two_layers(outputs: int) -> tuple[onnx.ModelProto, np.ndarray]:
    b = Build(seed=2)
    hidden = b.op("Gemm", b.input("N", 7), b.weight(7, 5), b.vector(5), name="below")
    weight = b.weight(5, outputs)
    return b.proto(b.op("Gemm", hidden, weight, name="above"), dims=[("N", outputs)]), b.initializers[weight]


def test_one_output_of_a_linear_network() -> None:
    proto, above = two_layers(1)
    x = RNG.normal(size=(11, 7)).astype(np.float32)
    y = open_session(proto).run({"x": x}).popitem()[1]
    found = measured(proto, {"x": x})
    scale = 11 / y.astype(np.float64).var()
    np.testing.assert_allclose(found["below"].total[0], above @ above.T * scale, rtol=1e-4)
    np.testing.assert_allclose(found["above"].total[0], [[scale]], rtol=1e-4)
    assert found["below"].count == 11


def test_signs_make_the_matrix_of_many_outputs_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_sensitivity, "SAMPLES", 10**6)
    proto, above = two_layers(3)
    x = RNG.normal(size=(2_003, 7)).astype(np.float32)
    y = open_session(proto).run({"x": x}).popitem()[1].astype(np.float64)
    scaled = above / y.std(axis=0) / np.sqrt(3)
    found = measured(proto, {"x": x})["below"].total[0] / 2_003
    np.testing.assert_allclose(found, scaled @ scaled.T, atol=0.1 * np.abs(scaled @ scaled.T).max())


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    proto, _ = two_layers(3)
    x = {"x": RNG.normal(size=(23, 7)).astype(np.float32)}
    whole = measured(proto, x)
    monkeypatch.setattr(output_sensitivity, "LIVE", 1)
    for name, found in measured(proto, x).items():
        np.testing.assert_allclose(found.total, whole[name].total, rtol=1e-5)


def test_only_some_samples_are_gone_back_from() -> None:
    proto, _ = two_layers(3)
    count = measured(proto, {"x": RNG.normal(size=(1_000, 7)).astype(np.float32)})["below"].count
    assert 0.7 * output_sensitivity.SAMPLES < count < 1.3 * output_sensitivity.SAMPLES


def test_few_samples_are_gone_back_from_in_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_sensitivity, "LARGE", 54)  # stored: 7 x 5 and 5, 5 x 3
    proto, _ = two_layers(3)
    count = measured(proto, {"x": RNG.normal(size=(1_000, 7)).astype(np.float32)})["below"].count
    assert 0.4 * output_sensitivity.SAMPLES_OF_LARGE < count < 1.6 * output_sensitivity.SAMPLES_OF_LARGE


def test_the_widest_are_left_out_where_all_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_sensitivity, "SUMS", 8 * (3**2 + 5**2) - 1)
    proto, _ = two_layers(3)
    found = measured(proto, {"x": RNG.normal(size=(11, 7)).astype(np.float32)})
    assert found["below"] is None
    assert found["above"] is not None


def test_who_is_left_out_does_not_depend_on_who_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    proto, _ = two_layers(3)
    analysis, arrays = analyze(proto), {"x": RNG.normal(size=(11, 7)).astype(np.float32)}
    below = [linear.key for linear in analysis.linears if linear.label == "below"]
    ask = partial(
        measure_sensitivities, analysis, as_calibration(arrays, analysis.model),
        np.arange(11), yardstick(proto, arrays), CaptureOptions(threads=1),
    )  # fmt: skip
    assert list(ask(requested=below)) == below
    monkeypatch.setattr(output_sensitivity, "SUMS", 8 * (3**2 + 5**2) - 1)
    assert not ask(requested=below)


def test_what_lies_before_an_operator_with_no_rule_is_not_known() -> None:
    b = Build(seed=2)
    first = b.op("Gemm", b.input("N", 7), b.weight(7, 5), name="first")
    second = b.op("Gemm", b.op("Hardmax", first), b.weight(5, 3), name="second")
    found = measured(b.proto(second, dims=[("N", 3)]), {"x": RNG.normal(size=(5, 7)).astype(np.float32)})
    assert found["first"] is None
    assert found["second"] is not None


def test_a_way_around_an_operator_with_no_rule_is_not_enough() -> None:
    b = Build(seed=2)
    first = b.op("Gemm", b.input("N", 7), b.weight(7, 5), name="first")
    around = b.op("Add", b.op("Hardmax", first), first)
    found = measured(b.proto(around, dims=[("N", 5)]), {"x": RNG.normal(size=(5, 7)).astype(np.float32)})
    assert found["first"] is None


def test_steps_hand_nothing_back() -> None:
    b = Build(seed=2)
    first = b.op("Gemm", b.input("N", 7), b.weight(7, 5), name="first")
    stepped = b.op("Add", b.op("Mul", b.op("Round", first), first), first)
    assert measured(b.proto(stepped, dims=[("N", 5)]), {"x": np.ones((5, 7), np.float32)})["first"] is not None


def test_padding_does_not_count() -> None:
    b = Build(seed=2)
    mask = b.input("N", "T", name="mask", dtype=np.int64)
    proto = b.proto(b.op("MatMul", b.input("N", "T", 7), b.weight(7, 5), name="made"), dims=[("N", "T", 5)])
    proto.graph.output.append(onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.INT64, ["N", "T"]))
    proto.graph.node.append(onnx.helper.make_node("Identity", [mask], ["seen"]))
    x = RNG.normal(size=(4, 3, 7)).astype(np.float32)
    x[:, 2] *= 100
    ones = np.ones((4, 3), np.int64)
    padded, short, everywhere = (  # signs do not show in a trace
        measured(proto, feeds, masks=("mask",))["made"].total.trace(axis1=1, axis2=2)[0]
        for feeds in (
            {"x": x, "mask": ones * [[1, 1, 0]]},
            {"x": x[:, :2], "mask": ones[:, :2]},
            {"x": x, "mask": ones},
        )
    )
    assert padded == pytest.approx(short, rel=1e-5)
    assert everywhere < 0.1 * padded


def attention(b: Build, x: str) -> str:
    """Queries and keys of 2 x 3, values of 2 x 5 dimensions; the last position is masked, as are later ones."""
    weight = b.weight(7, 22, fan_in=2)
    mask = b.const(np.array([[1, 1, 0], [1, 1, 1]], np.int32))
    sizes = {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 10]}
    return b.op("Attention", x, weight, b.vector(22), mask, unidirectional=1, scale=0.9, **sizes, domain=MS)


def apart(b: Build, x: str) -> str:
    """Queries of 2 x 3 dimensions by keys and values of another length, masked, with biases of everything."""
    k = b.op("MatMul", b.weight(5, 3), x)
    lengths, bias = b.const(np.array([5, 3], np.int32)), b.const(b.rng.normal(size=(1, 2, 3, 5)))
    q, k, v = (b.op("MatMul", rows, b.weight(7, width)) for rows, width in ((x, 6), (k, 6), (k, 10)))
    return b.op("MultiHeadAttention", q, k, v, b.vector(22), lengths, bias, num_heads=2, scale=0.9, domain=MS)


def grouped(b: Build, x: str, before: int = 0, together: bool = False, **more: Any) -> str:
    """Four heads of queries to two of keys; one new position where some were before. Keys count beside the output."""
    new = 1 if before else 3
    x = b.op("ReduceSum", x, b.ints(1)) if before else x
    read = [b.op("MatMul", x, b.weight(7, width)) for width in (64, 32, 32)]
    read = [b.op("Concat", *read, axis=-1), "", ""] if together else read
    past = [b.const(b.rng.normal(size=(2, 2, before, 16))) for _ in range(2)]
    lengths, total = b.const(np.full(2, before + new - 1, np.int32)), b.const(np.array([before + new], np.int32))
    tables = [b.const(f(np.outer(np.arange(11), 0.8 ** np.arange(8)))) for f in (np.cos, np.sin)]
    settings = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1, "domain": MS, **more}
    made, keys, _ = b.op("GroupQueryAttention", *read, *past, lengths, total, *tables, outputs=3, **settings)
    summed = b.op("ReduceSum", b.op("Sin", keys), b.ints(2, 3), keepdims=0)
    return b.op("Concat", b.op("ReduceSum", made, b.ints(1), keepdims=0), summed, axis=1)


def convolved(b: Build, x: str, **activation: Any) -> str:
    """Along the second axis, to five channels."""
    return b.op("FusedConv", x, b.weight(5, 3, 3), pads=[1, 1], domain=MS, **activation)


FUSED = {
    "Attention": attention,
    "MultiHeadAttention": apart,
    "GroupQueryAttention": grouped,
    "GroupQueryAttention, later": partial(grouped, before=2),
    "GroupQueryAttention, together": partial(grouped, together=True),
    "FusedGemm": lambda b, x: b.op("FusedGemm", x, b.weight(5, 7), transB=1, alpha=0.5, activation="Tanh", domain=MS),
    "FusedGemm, leaky": lambda b, x: b.op(
        "FusedGemm", x, b.weight(5, 7), transB=1, activation="LeakyRelu", activation_alpha=0.3, domain=MS
    ),
    "FusedConv, leaky": partial(convolved, activation="LeakyRelu", activation_params=[0.8]),
    "FusedConv, hard": partial(convolved, activation="HardSigmoid", activation_params=[0.3, 0.4]),
    "FusedMatMul": lambda b, x: b.op("FusedMatMul", x, b.weight(7, 7), transB=1, alpha=0.5, domain=MS),
    "BiasGelu": lambda b, x: b.op("BiasGelu", x, b.vector(7), domain=MS),
    "FastGelu": lambda b, x: b.op("FastGelu", x, b.vector(7), domain=MS),
    "Gelu": lambda b, x: b.op("Gelu", x, domain=MS),
    "QuickGelu": lambda b, x: b.op("QuickGelu", x, alpha=1.3, domain=MS),
    "SkipLayerNormalization": lambda b, x: b.op(
        "SkipLayerNormalization", x, b.op("Sin", x), b.vector(7), b.vector(7), b.vector(7), epsilon=0.1, domain=MS
    ),
    "SkipSimplifiedLayerNormalization": lambda b, x: b.op(
        "SkipSimplifiedLayerNormalization", x, b.op("Sin", x), b.vector(7), b.vector(7), epsilon=0.1, domain=MS
    ),
    "SimplifiedLayerNormalization": lambda b, x: b.op("SimplifiedLayerNormalization", x, b.vector(7), epsilon=0.1),
}


_GROUPED = {op: ("N", 66) for op in FUSED if op.startswith("GroupQuery")}
_DENSE = {op: ("N", 5) for op in FUSED if op.startswith("FusedGemm")}
_CONVOLVED = {op: ("N", 5, 7) for op in FUSED if op.startswith("FusedConv")}
WIDTHS = {**_DENSE, **_CONVOLVED, "Attention": ("N", 3, 10), "MultiHeadAttention": ("N", 3, 10), **_GROUPED}


@pytest.mark.parametrize("op", FUSED)
def test_fused_operators_against_differences(op: str) -> None:
    b = Build(seed=5)
    x = b.input("N", 7) if op in _DENSE else b.input("N", 3, 7)
    proto = b.proto(FUSED[op](b, b.op("Identity", x)), dims=[WIDTHS.get(op, ("N", 3, 7))])
    backward = Backward(Graph(proto), frozenset({x}))
    assert backward.reached == {x}
    shape = (2, 7) if op in _DENSE else (2, 3, 7)
    at, way = (RNG.normal(size=shape).astype(np.float32) for _ in range(2))
    output = proto.graph.output[0].name
    taps = [name for name in backward.reads if name != x]
    values = {x: at} | open_session(proto, taps=taps, optimise=False).run({x: at})
    upper = RNG.normal(size=values[output].shape).astype(np.float32)
    gradient = backward(values, {output: upper})[x]
    session = open_session(proto)
    ahead, behind = (session.run({x: at + sign * np.float32(1e-2) * way})[output] for sign in (1, -1))
    expected = float((upper.astype(np.float64) * (ahead - behind)).sum()) / 2e-2
    assert float((gradient * way).sum()) == pytest.approx(expected, rel=5e-3, abs=1e-3)


@pytest.mark.parametrize("setting", [{"local_window_size": 2}, {"softcap": 0.5}, {"smooth_softmax": 1}])
def test_settings_of_a_decoders_attention_that_are_not_known_end_the_way(setting: dict[str, Any]) -> None:
    b = Build(seed=5)
    x = b.input("N", 3, 7)
    proto = b.proto(grouped(b, b.op("Identity", x), **setting), dims=[("N", 66)])
    assert not Backward(Graph(proto), frozenset({x})).reached


def test_a_fused_activation_that_is_not_known_ends_the_way_at_its_operator() -> None:
    b = Build(seed=5)
    below = b.op("FusedGemm", b.input("N", 7), b.weight(7, 5), activation="Relu", name="below", domain=MS)
    above = b.op("FusedGemm", below, b.weight(5, 5), activation="Softplus", name="above", domain=MS)
    proto = b.proto(b.op("Gemm", above, b.weight(5, 3), name="last"), dims=[("N", 3)])
    found = measured(proto, {"x": RNG.normal(size=(9, 7)).astype(np.float32)})
    assert [name for name, one in found.items() if one is not None] == ["last"]


def test_another_attention_than_is_known_is_not_differentiated() -> None:
    b = Build(seed=5)
    seen = b.op("Gemm", b.op("Reshape", b.input("N", 3, 7), b.ints(-1, 7)), b.weight(7, 7), name="first")
    x = b.op("Reshape", seen, b.ints(-1, 3, 7))
    bias = b.const(RNG.normal(size=(1, 2, 3, 3)))
    made = b.op("Attention", x, b.weight(7, 18), b.vector(18), "", "", bias, num_heads=2, domain=MS)
    assert measured(b.proto(made, dims=[("N", 3, 6)]), {"x": np.ones((5, 3, 7), np.float32)})["first"] is None


def test_products_inside_of_attention_are_minded_as_those_before_it() -> None:
    x, found = RNG.normal(size=(9, 3, 7)).astype(np.float32), {}
    for inside in (True, False):
        b = Build(seed=5)
        rows, weight = b.op("Tanh", b.input("N", 3, 7)), b.weight(7, 22)
        if inside:
            sizes = {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 10]}
            made = b.op("Attention", rows, weight, b.const(np.zeros(22)), **sizes, name="products", domain=MS)
        else:
            products = b.op("MatMul", rows, weight, name="products")
            apart = b.op("Split", products, b.ints(6, 6, 10), outputs=3, axis=2)
            made = b.op("MultiHeadAttention", *apart, num_heads=2, domain=MS)
        found[inside] = measured(b.proto(b.op("Sin", made), dims=[("N", 3, 10)]), {"x": x})["products"]
    expected, matrix = (found[inside].total for inside in (False, True))
    assert expected.shape == (1, 22, 22)
    np.testing.assert_allclose(matrix, expected, atol=1e-5 * float(np.abs(expected).max()))


def unequal(count: int = 64) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Eight hidden units, of which the outputs feel the even ones; the odd ones move more."""
    felt, rng = np.arange(8) % 2 == 0, np.random.default_rng(7)
    b = Build(seed=1)
    hidden = b.op("Tanh", b.op("Gemm", b.input("N", 8), b.const(np.diag(np.where(felt, 0.2, 1.0)))))
    mixed = b.op("Tanh", b.op("Gemm", hidden, b.const(np.eye(8)), name="mix"))
    proto = b.proto(b.op("Gemm", mixed, b.const(np.where(felt, 1.0, 1e-3)[:, None] * rng.normal(size=(8, 3)))))
    return proto, {"x": rng.normal(size=(count, 8)).astype(np.float32)}


@pytest.mark.parametrize(("wanted", "kept"), [(True, [0, 2, 4, 6]), (False, [1, 3, 5, 7])])
def test_units_that_the_outputs_feel_stay(wanted: bool, kept: list[int]) -> None:
    proto, arrays = unequal()
    options = PruneOptions(
        keep=0.5, only=("n_gemm2",), sensitivity=wanted, repair=False, threads=1, latency=False, force=True
    )
    statistics = onnxmi.collect(proto, arrays, PruneOptions(threads=1))
    made = onnxmi.prune(proto, arrays, options, statistics=statistics)
    chosen = made.plan.choices[0]
    assert np.asarray(chosen.kept).tolist() == kept
    assert made.plan.options["sensitivity"] is wanted


def test_an_unknown_sensitivity_is_said() -> None:
    b = Build(seed=2)
    hidden = b.op("Relu", b.op("Gemm", b.input("N", 7), b.weight(7, 13), name="first"))
    proto = b.proto(b.op("Hardmax", b.op("Gemm", hidden, b.weight(13, 3), name="second")), dims=[("N", 3)])
    arrays = {"x": RNG.normal(size=(40, 7)).astype(np.float32)}
    options = PruneOptions(keep=0.5, threads=1, latency=False, force=True)
    unknown = [note for note in onnxmi.prune(proto, arrays, options).notes if "sensitivity" in note]
    reason = "an operator without a gradient rule lies after them"
    assert unknown == [f"no output sensitivity for 1 of 1 operators ({reason}): their neurons are weighted equally"]
    lasting = PruneOptions(keep=0.5, threads=1, latency=False, sensitivity=False, force=True)
    assert not [note for note in onnxmi.prune(proto, arrays, lasting).notes if "sensitivity" in note]


def test_a_statistics_file_keeps_them(tmp_path: Path) -> None:
    proto, arrays = unequal()
    options = PruneOptions(threads=1)
    collected = onnxmi.collect(proto, arrays, options)
    save_statistics(collected, tmp_path / "statistics.npz")
    loaded = load_statistics(tmp_path / "statistics.npz").fit.sensitivities
    assert loaded.keys() == collected.fit.sensitivities.keys()
    assert loaded
    for key, found in loaded.items():
        assert found.count == collected.fit.sensitivities[key].count
        np.testing.assert_array_equal(found.total, collected.fit.sensitivities[key].total)


def test_those_of_shards_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_sensitivity, "SAMPLES", 10**6)
    proto, arrays = unequal(1500)  # parts that chance does not make half as large
    options = PruneOptions(threads=1)
    shards = [onnxmi.collect(proto, {"x": arrays["x"][part]}, options) for part in (slice(0, 600), slice(600, 1500))]
    merged, whole = shards[0].merge(shards[1]), onnxmi.collect(proto, arrays, options)
    for key, found in whole.fit.sensitivities.items():
        other: Sensitivity = merged.fit.sensitivities[key]
        assert other.count == found.count
        # Each is in units of its own samples' answers, and these differ by chance.
        np.testing.assert_allclose(other.total, found.total, rtol=0.05, atol=0.05 * np.abs(found.total).max())
