"""States in the interface that shrink with their layer: cut, verified, said, and compared with the original."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import UsageError
from onnxmi.gate.check import CheckOptions, check
from onnxmi.gate.difference import DiffOptions, difference
from onnxmi.model import Model
from onnxmi.model.narrow_states import KEY, narrow_states
from onnxmi.runtime.session import open_session
from onnxmi.transforms.analysis import analyze
from tests.support.build import Build

F, H, N = 5, 19, 211
SETTINGS = {"threads": 1, "latency": False}


def listener() -> onnx.ModelProto:
    """A streaming recognizer: one step of an LSTM, whose h and c are one state (2, batch, H)."""
    b = Build(seed=5)
    x, state = b.input("batch", F), b.input(2, "batch", H, name="state")
    hidden = b.op("Unsqueeze", b.op("Relu", b.gemm(x, F, 11)), b.ints(0))
    parts = [b.op("Unsqueeze", b.op("Gather", state, b.const(np.array(n)), axis=0), b.ints(0)) for n in (0, 1)]
    weights = b.weight(1, 4 * H, 11), b.weight(1, 4 * H, H), b.weight(1, 8 * H)
    _, h, c = b.op("LSTM", hidden, *weights, "", *parts, hidden_size=H, outputs=3)
    y = b.gemm(b.op("Squeeze", h, b.ints(0)), H, 3)
    proto = b.proto(y, b.op("Concat", h, c, axis=0), dims=[("batch", 3), (2, "batch", H)])
    return _called(proto, "stateN")


def _called(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    old, proto.graph.output[1].name = proto.graph.output[1].name, name
    for node in proto.graph.node:
        node.output[:] = [name if one == old else one for one in node.output]
    return proto


def sounds(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.normal(size=(N, 2)), axis=0) * 0.3
    return {"x": (slow @ np.random.default_rng(9).normal(size=(2, F)) + 0.3 * rng.normal(size=(N, F))).astype("f4")}


def streamed(proto: onnx.ModelProto, x: np.ndarray, size: int) -> np.ndarray:
    """What a caller gets who starts with zeros of the state's size and feeds back what comes out."""
    session, state, told = open_session(proto, threads=1), np.zeros((2, 1, size), np.float32), []
    for one in x:
        made = session.session.run(None, {"x": one[np.newaxis], "state": state})
        state = made[1]
        told.append(made[0][0])
    return np.array(told)


def pruned(**options: object) -> onnxmi.Result:
    samples = onnxmi.source(sounds(), sequences=True)
    return onnxmi.prune(listener(), samples, keep=0.6, allow_interface=True, force=True, **SETTINGS, **options)


def shapes(proto: onnx.ModelProto) -> dict[str, list[object]]:
    both = (*proto.graph.input, *proto.graph.output)
    return {v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in both}


def test_without_the_option_a_state_keeps_its_units():
    samples = onnxmi.source(sounds(), sequences=True)
    result = onnxmi.prune(listener(), samples, keep=0.6, force=True, **SETTINGS)
    assert shapes(result.proto) == shapes(listener())
    assert not narrow_states(result.proto)


def test_a_state_shrinks_on_both_sides_and_streams():
    result = pruned()
    kept = next(choice.kept for choice in result.plan.choices if choice.size == H)
    assert len(kept) < H
    declared = shapes(result.proto)
    assert declared["state"] == declared["stateN"] == [2, "batch", len(kept)]
    whole, narrow = streamed(listener(), sounds(1)["x"], H), streamed(result.proto, sounds(1)["x"], len(kept))
    assert np.corrcoef(whole.ravel(), narrow.ravel())[0, 1] > 0.9
    assert result.after.parameters < 0.6 * result.before.parameters
    assert all(check.passed and "not applicable" not in check.detail for check in result.checks)


def test_it_equals_the_original_whose_units_are_zero_over_a_whole_stream():
    result = pruned(repair=False)
    kept = next(choice.kept for choice in result.plan.choices if choice.size == H)
    other = next(choice for choice in result.plan.choices if choice.size == 11)
    zeroed = listener()
    lstm = next(node for node in zeroed.graph.node if node.op_type == "LSTM")
    gone = np.setdiff1d(np.arange(H), kept)
    for tensor in zeroed.graph.initializer:
        value = np.array(onnx.numpy_helper.to_array(tensor))
        if tensor.name == lstm.input[2]:
            value[:, :, gone] = 0
        elif tensor.name == lstm.input[1]:
            value[:, :, np.setdiff1d(np.arange(11), other.kept)] = 0
        elif value.shape == (3, H):
            value[:, gone] = 0
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    x = sounds(2)["x"]
    assert np.allclose(streamed(zeroed, x, H), streamed(result.proto, x, len(kept)), atol=1e-4)


def test_the_interface_is_said_in_the_plan_the_file_and_the_report():
    result = pruned()
    assert result.plan.states == {"state": "stateN"}
    said = json.loads(next(entry.value for entry in result.proto.metadata_props if entry.key == KEY))
    kept = next(choice.kept for choice in result.plan.choices if choice.size == H)
    assert said["state"] == {"sizes": [None, None, H], "kept": [None, None, kept.tolist()]}
    text = f"states in the interface are narrower: state ({len(kept)} of {H}), stateN ({len(kept)} of {H})"
    assert any(note.startswith(text) for note in result.notes)
    assert text in str(result)


def test_a_plan_with_states_can_be_applied_and_repaired_again(tmp_path):
    result = pruned(repair=False)
    path = tmp_path / "small.plan.json"
    path.write_text(result.plan.to_json())
    plan = onnxmi.load_plan(path)
    applied = onnxmi.apply(listener(), plan)
    assert applied.proto.SerializeToString(deterministic=True) == result.proto.SerializeToString(deterministic=True)
    again = onnxmi.prune(listener(), onnxmi.source(sounds(), sequences=True), plan=plan, force=True, **SETTINGS)
    assert shapes(again.proto) == shapes(result.proto)


def test_the_gate_and_the_difference_take_narrower_states(tmp_path):
    result = pruned()
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    onnx.save(listener(), old)
    onnx.save(result.proto, new)
    data = onnxmi.source(sounds(3), sequences=True)
    report = check(new, CheckOptions(limits={"max-drop": 1.0}, baseline=old, data=data, threads=1))
    assert not report.failed
    assert "narrower states" in next(verdict.detail for verdict in report.verdicts if verdict.name == "interface")
    told = difference(old, new, DiffOptions(threads=1))
    assert not told.interface
    assert any("narrower" in note for note in told.notes)


def test_a_session_takes_the_states_of_the_original_and_its_own():
    proto = pruned().proto
    state = narrow_states(proto)["state"]
    whole = np.random.default_rng(4).normal(size=(2, 3, H)).astype(np.float32)
    session, x = open_session(proto, threads=1), sounds()["x"][:3]
    wide, narrow = session.run({"x": x, "state": whole}), session.run({"x": x, "state": state.narrowed(whole)})
    y, out = proto.graph.output[0].name, "stateN"
    assert np.array_equal(wide[y], narrow[y])
    assert wide[out].shape == whole.shape
    assert np.array_equal(state.narrowed(wide[out]), narrow[out])


def test_a_model_without_states_is_refused():
    b = Build(seed=0)
    proto = b.proto(b.gemm(b.op("Relu", b.gemm(b.input("N", F), F, 11)), 11, 3))
    with pytest.raises(UsageError, match="no output is recognized as a state"):
        onnxmi.prune(proto, {"x": sounds()["x"]}, keep=0.5, allow_interface=True, **SETTINGS)


def test_a_size_that_the_model_leaves_free_is_not_cut():
    proto = listener()
    for value in (proto.graph.input[1], proto.graph.output[1]):
        value.type.tensor_type.shape.dim[2].dim_param = "units"
    feeds = {"x": sounds()["x"][:3], "state": np.zeros((2, 3, H), np.float32)}
    graph = analyze(Model.of(proto), feeds, states={}).graph
    assert all(layer.size != H for layer in graph.layers)
