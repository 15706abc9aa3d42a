"""Recurrent layers of integers: rows times weights are the gates' pre-activations; new weights are stored rounded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxmi.graph.linear import weight_array, weights_of
from onnxmi.repair import repair_one_pass
from onnxmi.transforms.prune_channels import prune_channels
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.oracle import run

HIDDEN, SECOND, SIZE, STEPS = 23, 19, 7, 9


def quantized(ways: int, *, per_channel: bool) -> onnx.ModelProto:
    """Two LSTMs, the second on the first, with weights of 8 bits."""
    b = Build(seed=2)
    x, size, way = b.op("Transpose", b.input("N", STEPS, SIZE), perm=[1, 0, 2]), SIZE, "bidirectional"
    for hidden in (HIDDEN, SECOND):
        weights = b.weight(ways, 4 * hidden, size), b.weight(ways, 4 * hidden, hidden)
        settings = {"hidden_size": hidden, "direction": way if ways == 2 else "forward"}
        made = b.op("LSTM", x, *weights, b.weight(ways, 8 * hidden, fan_in=9), outputs=2, **settings)[0]
        size = ways * hidden
        x = b.reshape(b.op("Transpose", made, perm=[0, 2, 1, 3]), 0, 0, size)
    proto = b.proto(b.op("Transpose", b.dense(x, size, 5), perm=[1, 0, 2]))
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "integers.onnx")
        onnx.save(proto, before)
        settings = {"op_types_to_quantize": ["LSTM"], "weight_type": QuantType.QInt8}
        quantize_dynamic(before, after, per_channel=per_channel, **settings)
        return onnx.load(after)


CASES = [(1, False), (2, False), (1, True)]


@pytest.mark.parametrize(("ways", "per_channel"), CASES)
def test_integers_stand_for_weights_and_come_back(ways: int, per_channel: bool) -> None:
    bench = Bench(quantized(ways, per_channel=per_channel))
    own = [linear for linear in bench.linears if linear.nodes[0].op == "DynamicQuantizeLSTM"]
    assert [linear.obstacle for linear in own] == [None] * 4
    for linear in own:
        scale = bench.model.graph.constant(linear.nodes[0].inputs[8 if linear.layout.weight == 1 else 10])
        stored = bench.model.graph.constant(linear.weight_name)
        expected = stored * (scale[:, None, :] if per_channel else scale[:, None, None])
        matrix = weights_of(bench.model, linear)
        np.testing.assert_allclose(weight_array(linear, matrix, stored.shape), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("ways", "per_channel"), CASES)
def test_a_layer_that_lost_inputs_is_refitted(ways: int, per_channel: bool) -> None:
    bench = Bench(quantized(ways, per_channel=per_channel))
    keeping = bench.keep()
    one_pass = repair_one_pass(bench.cut(keeping), bench.statistics())
    layers = [made for made in one_pass.replacements if made.linear.nodes[0].op == "DynamicQuantizeLSTM"]
    assert layers
    assert all(made.weights is not None and made.weights.dtype == np.int8 for made in layers)
    used = [note for note in one_pass.notes if note.used and "lstm" in note.operator]
    assert all(note.error_repaired < 0.95 * note.error_plain for note in used)
    changed = onnx.shape_inference.infer_shapes(prune_channels(bench.cut(keeping), one_pass.replacements))
    outputs = run(changed, bench.case.feeds())
    assert np.isfinite(outputs[0]).all()


def test_scales_that_differ_by_gate_and_direction_are_not_refitted() -> None:
    bench = Bench(quantized(2, per_channel=True))
    assert all(linear.nodes[0].op != "DynamicQuantizeLSTM" for linear in bench.linears)
