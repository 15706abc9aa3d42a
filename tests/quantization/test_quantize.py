"""Float models quantized by onnxruntime's quantizer: what comes out, and that it comes out the same."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxmi.errors import ModelError, PlanError
from onnxmi.model.load import load, proto_digest
from onnxmi.quantization import quantize as quantization
from onnxmi.quantization.processor import saturates
from onnxmi.quantization.quantize import follow, prepare, quantize, replay, with_ranges
from onnxmi.quantization.recipe import RANGE_METHODS, Recipe
from onnxmi.runtime.session import open_session
from tests.support.build import Build

WIDTH = 37
CONTRIB = "com.microsoft"
COUNT = 101


def batches(width: int = WIDTH, seed: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(COUNT, width)).astype(np.float32)} for _ in range(3)]


def mlp(**outputs: str) -> onnx.ModelProto:
    b = Build(seed=5)
    x = b.input("N", WIDTH)
    inner = b.op("Relu", b.gemm(x, WIDTH, 53))
    return b.proto(b.op("Softmax", b.dense(inner, 53, 11), axis=-1))


def image_net() -> onnx.ModelProto:
    b = Build(seed=6)
    x = b.input("N", 3, 9, 7)
    stem = b.op("Relu", b.batch_norm(b.conv(x, 3, 13), 13))
    other = b.op("Relu", b.conv(stem, 13, 13))
    joined = b.op("Relu", b.op("Add", other, stem))
    flat = b.op("Flatten", b.op("GlobalAveragePool", joined))
    return b.proto(b.gemm(flat, 13, 5))


def images(seed: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(23, 3, 9, 7)).astype(np.float32)} for _ in range(3)]


def lost(before: onnx.ModelProto, after: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> float:
    was, now = (next(iter(open_session(proto).run(feeds).values())) for proto in (before, after))
    return float(np.square(was - now).mean() / was.var())


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_an_8_bit_model_answers_nearly_the_same_through_the_same_interface(mode: str) -> None:
    source = mlp()
    made = follow(prepare(source).everything(mode), source, batches()).proto
    assert lost(source, made, batches(seed=4)[0]) < 0.002
    assert list(made.graph.input) == list(source.graph.input)
    assert list(made.graph.output) == list(source.graph.output)
    stored = {tensor.data_type for tensor in made.graph.initializer if len(tensor.dims) == 2}
    assert stored == {onnx.TensorProto.INT8}
    onnx.checker.check_model(made, full_check=True)


def test_convolutions_are_8_bit_from_end_to_end_if_static_and_float_if_dynamic() -> None:
    source = image_net()
    static = follow(prepare(source).everything("static"), source, images()).proto
    assert lost(source, static, images(seed=4)[0]) < 0.01
    readers = {name: node for node in static.graph.node for name in node.input}
    between = [node for node in static.graph.node if node.op_type in ("Conv", "Add", "GlobalAveragePool")]
    assert len(between) == 4
    assert {readers[node.output[0]].op_type for node in between} == {"QuantizeLinear"}  # none leaves in float
    dynamic = follow(prepare(source).everything("dynamic"), source, images()).proto
    assert "ConvInteger" not in {node.op_type for node in dynamic.graph.node}


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_every_method_finds_the_ranges_of_what_is_rounded_and_no_others(method: str) -> None:
    source = mlp()
    prepared = prepare(source)
    recipe = replace(prepared.everything("static", method), int8=prepared.everything("static").int8[:1])
    ranges = with_ranges(prepared, recipe, batches()).ranges
    every = np.concatenate([feeds["x"] for feeds in batches()])
    assert "x" in ranges
    low, high = ranges["x"]
    assert every.min() <= low < high <= every.max()
    assert method != "minmax" or (low, high) == (every.min(), every.max())
    assert source.graph.output[0].name not in ranges  # what the float operators make


def test_products_among_fused_operators_of_onnxruntime_are_quantized() -> None:
    """onnx cannot infer what these make."""
    b = Build(seed=8)
    inner = b.op("BiasGelu", b.op("MatMul", b.input("N", WIDTH), b.weight(WIDTH, 53)), b.vector(53), domain=CONTRIB)
    source = b.proto(b.op("Relu", b.op("MatMul", inner, b.weight(53, 11))))
    for mode in ("dynamic", "static"):
        made = follow(prepare(source).everything(mode), source, batches()).proto
        assert lost(source, made, batches(seed=4)[0]) < 0.002
        assert (
            sum(
                tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2 for tensor in made.graph.initializer
            )
            == 2
        )


def test_a_file_of_the_time_when_stored_tensors_were_inputs_too_is_a_valid_one_afterwards() -> None:
    source = mlp()
    source.ir_version = 3
    for tensor in source.graph.initializer:
        source.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = follow(prepare(source).everything("dynamic"), source, batches()).proto
    onnx.checker.check_model(made, full_check=True)
    assert [value.name for value in made.graph.input] == ["x"]


def test_operators_may_stay_float() -> None:
    source = mlp()
    prepared = prepare(source)
    everything = prepared.everything("dynamic")
    first, last = everything.int8
    made = quantize(prepared, replace(everything, int8=(last,), left_float=(first,)))
    products = [node.op_type for node in made.graph.node if node.op_type in ("Gemm", "MatMul", "MatMulInteger")]
    assert sorted(products) == ["MatMul", "MatMulInteger"]


def test_a_compared_inner_tensor_keeps_its_name_and_is_what_the_outputs_are_made_from() -> None:
    source = mlp()
    logits = next(node.input[0] for node in source.graph.node if node.op_type == "Softmax")
    made = follow(prepare(source, [logits]).everything("static"), source, batches()).proto
    feeds = batches(seed=4)[0]
    inner = open_session(made, taps=[logits]).run(feeds)[logits]
    outer = next(iter(open_session(made).run(feeds).values()))
    exponentials = np.exp(inner - inner.max(1, keepdims=True))
    np.testing.assert_allclose(outer, exponentials / exponentials.sum(1, keepdims=True), atol=1e-5)
    assert [value.name for value in made.graph.output] == [value.name for value in source.graph.output]


def test_operators_without_names_or_with_one_name_are_told_apart() -> None:
    source = mlp()
    for number, node in enumerate(source.graph.node):
        node.name = "" if number % 2 else "same"
    recipe = prepare(source).everything("dynamic")
    assert len(set(recipe.int8)) == 2
    assert all(recipe.int8)


def test_a_replayed_recipe_gives_the_same_bytes_in_another_process(bundled) -> None:
    path, samples = bundled / "digits-resnet.onnx", bundled / "digits-resnet.calib.npz"
    source = load(path).proto
    feeds = [{"image": np.load(samples)["image"][:32]}]
    made = follow(prepare(source).everything("static"), source, feeds)
    program = (
        "import json, sys\nfrom onnxmi.model.load import load, proto_digest\n"
        "from onnxmi.quantization.quantize import replay\nfrom onnxmi.quantization.recipe import Recipe\n"
        f"recipe = Recipe.from_dict(json.loads(sys.stdin.read()))\n"
        f"print(proto_digest(replay(recipe, load({str(path)!r}).proto)))\n"
    )
    import json

    told = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(made.recipe.to_dict()),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONHASHSEED": "17", "PATH": ""},
    )
    assert told.stdout.strip() == proto_digest(made.proto)


def test_a_recipe_of_another_model_is_refused() -> None:
    with pytest.raises(PlanError, match="the plan quantizes operator 'elsewhere'"):
        replay(Recipe("dynamic", ("elsewhere",)), mlp())


def test_what_onnxruntime_cannot_quantize_is_one_line_and_leaves_logging_as_it_was() -> None:
    source = mlp()
    recipe = replace(prepare(source).everything("static"), ranges={"x": (0.0, 1.0)})  # the others are missing
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    with pytest.raises(ModelError, match=r"^onnxruntime cannot quantize the model: .+$") as told:
        replay(recipe, source)
    assert "\n" not in str(told.value)
    assert (logging.root.handlers, logging.root.manager.disable) == (handlers, disabled)


def test_weights_take_7_bits_where_sums_of_two_products_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = {}
    for answer in (True, False):
        monkeypatch.setattr(quantization, "saturates", lambda answer=answer: answer)
        made = follow(prepare(mlp()).everything("dynamic"), mlp(), batches()).proto
        weights = [tensor for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
        largest[answer] = max(np.abs(onnx.numpy_helper.to_array(tensor)).max() for tensor in weights)
    assert largest[True] <= 64
    assert largest[False] == 127


def test_saturation_is_what_large_products_show() -> None:
    b = Build(seed=1)
    proto = b.proto(b.op("MatMulInteger", b.input(3, 70, dtype=np.uint8), b.const(np.full((70, 33), 127, np.int8))))
    got = open_session(proto).run({"x": np.full((3, 70), 255, np.uint8)})
    assert saturates() == bool((next(iter(got.values())) != 255 * 127 * 70).any())


def test_an_operator_that_the_cut_of_the_recipe_did_not_have_is_quantized_too() -> None:
    prepared = prepare(mlp())
    first, second = prepared.everything("dynamic").int8
    of_another_cut = replace(prepared.everything("dynamic"), int8=(first, "gone"), left_float=())
    assert follow(of_another_cut, mlp(), batches()).recipe.int8 == (first, second)
    left = replace(of_another_cut, left_float=(second, "gone"))
    made = follow(left, mlp(), batches()).recipe
    assert (made.int8, made.left_float) == ((first,), (second,))
