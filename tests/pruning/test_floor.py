"""What is refused, lost outputs and promises on too few samples, and outputs of every sort through a whole run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.data.splits import split_samples
from onnxmi.errors import CalibrationError, CheckError
from onnxmi.evaluation.comparison import compare_models
from onnxmi.pruning.options import PruneOptions
from onnxmi.transforms.analysis import as_model
from tests.support.build import Build

HIDDEN = 23


def mlp(b: Build, x: str, outputs: int) -> str:
    return b.gemm(b.op("Relu", b.gemm(x, 11, HIDDEN)), HIDDEN, outputs)


def samples(count: int = 301, seed: int = 7) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(count, 11)).astype(np.float32)}


def run(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], **options) -> onnxmi.Result:
    return onnxmi.prune(proto, arrays, PruneOptions(threads=1, latency=False, **options))


def answers(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], output: int) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, arrays)[output]


def lost(before: onnx.ModelProto, after: onnx.ModelProto, output: int = 0) -> np.ndarray:
    """Error of each column over its own variance, on fresh samples."""
    fresh = samples(1009, seed=8)
    was, now = (answers(proto, fresh, output) for proto in (before, after))
    return np.square(was - now).mean(0) / was.var(0)


def test_a_result_whose_output_is_lost_is_not_written() -> None:
    b = Build(seed=3)
    proto = b.proto(mlp(b, b.input("N", 11), 5))
    with pytest.raises(CheckError, match=r"output \S+ is lost: its damage is .*--force"):
        run(proto, samples(), keep=0.05, repair=False)
    assert run(proto, samples(), keep=0.05, repair=False, force=True).damage.worst.error > 0.5


def test_a_result_with_one_lost_column_is_not_written() -> None:
    """Two columns hang on one hidden unit each of other layers: the mean over seven does not show it."""
    b = Build(seed=5)
    x = b.input("N", 11)
    easy = b.gemm(x, 11, 6)
    hard = b.gemm(b.op("Relu", b.gemm(b.op("Abs", b.gemm(x, 11, 31)), 31, 29)), 29, 1)
    proto = b.proto(b.op("Concat", easy, hard, axis=1))
    options = {"keep": 0.07, "repair": False}
    with pytest.raises(CheckError, match=r"is lost: its damage is .*--force"):
        run(proto, samples(), **options)
    column = lost(proto, run(proto, samples(), force=True, **options).proto)
    assert column[:6].max() < 1e-6
    assert column[6] > 1


def test_a_column_that_is_lost_on_samples_outside_of_the_test_samples_is_not_written() -> None:
    """One column moves on few samples, and none of them is a test sample."""
    b = Build(seed=5)
    x = b.input("N", 11)
    far = b.op("Relu", b.op("Sub", b.op("Abs", x), b.const(np.float32(2.6))))
    rare = b.op("MatMul", b.op("Relu", b.op("MatMul", far, b.weight(11, 31))), b.weight(31, 1))
    proto = b.proto(b.op("Concat", b.gemm(x, 11, 6), rare, axis=1))
    arrays = samples(61)
    moves = answers(proto, arrays, 0)[:, 6] != np.median(answers(proto, arrays, 0)[:, 6])
    assert 0 < moves.sum() < 20
    calibration = as_calibration(arrays, as_model(proto))
    splits = ((seed, split_samples(calibration, seed)) for seed in range(999))
    seed = next(seed for seed, split in splits if not moves[split.test].any() and moves[split.fit].sum() > 3)
    options = {"keep": 0.07, "repair": False, "seed": seed}
    with pytest.raises(CheckError, match=r"output \S+ is lost: its damage is .*--force"):
        run(proto, arrays, **options)
    assert run(proto, arrays, force=True, **options).damage.worst.worst < 0.1


def test_a_cost_that_loses_an_output_is_told_what_would_not() -> None:
    b = Build(seed=3)
    proto = b.proto(mlp(b, b.input("N", 11), 5))
    with pytest.raises(CheckError, match=r"about --macs 0\.\d+ would keep it"):
        run(proto, samples(), macs=0.1)


def test_a_promise_takes_samples_that_differ() -> None:
    b = Build(seed=3)
    proto = b.proto(mlp(b, b.input("N", 11), 5))
    few = samples(31)
    for arrays in (few, {"x": np.repeat(few["x"], 4, axis=0)}):
        with pytest.raises(CalibrationError, match=r"31 distinct samples.*: too few.*give 32 or more"):
            run(proto, arrays)
    run(proto, few, macs=0.8)


def test_offsets_do_not_hide_columns() -> None:
    b = Build(seed=3)
    proto = b.proto(b.op("Add", mlp(b, b.input("N", 11), 4), b.const(np.float32([0, 100, 200, 300]))))
    made = run(proto, samples(601), macs=0.85)
    assert lost(proto, made.proto).max() < 0.4


def test_a_second_output_counts() -> None:
    b = Build(seed=3)
    x = b.input("N", 11)
    easy = b.op("Add", mlp(b, x, 3), b.const(np.float32([9, 0, 0])))
    hard = mlp(b, x, 4)
    proto = b.proto(easy)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(hard, onnx.TensorProto.FLOAT, ["N", 4]))
    made = run(proto, samples(601), macs=0.85)
    assert lost(proto, made.proto, output=1).max() < 0.4


def test_an_output_that_is_ready_early_is_no_reason_to_fail() -> None:
    b = Build(seed=3)
    body = b.op("Relu", b.gemm(b.input("N", 11), 11, HIDDEN))
    early = b.op("Sigmoid", b.gemm(body, HIDDEN, 3))
    late = b.gemm(b.op("Relu", b.gemm(early, 3, 29)), 29, 5)
    for outputs in ((early, late), (late, early)):
        proto = b.proto(outputs[0])
        proto.graph.output.append(onnx.helper.make_tensor_value_info(outputs[1], onnx.TensorProto.FLOAT, None))
        made = run(proto, samples(), macs=0.6)
        assert {part.view.output for part in made.damage.parts} == set(outputs)


def test_a_stored_tensor_and_an_input_may_be_outputs() -> None:
    b = Build(seed=3)
    x = b.input("N", 11)
    proto = b.proto(mlp(b, x, 5))
    table = b.const(samples(5)["x"][:, :3])
    proto = b.proto(proto.graph.output[0].name)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(table, onnx.TensorProto.FLOAT, [5, 3]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, ["N", 11]))
    made = run(proto, samples(), macs=0.6)
    assert [part.view.output for part in made.damage.parts] == [proto.graph.output[0].name]
    compared = compare_models(as_model(proto), as_model(made.proto), as_calibration(samples(), as_model(proto)))
    assert [output.name for output in compared.outputs] == [proto.graph.output[0].name]


def test_labels_alone_are_compared_by_what_they_are_decided_on() -> None:
    b = Build(seed=3)
    logits = mlp(b, b.input("N", 11), 3)
    label = b.op("ArgMax", logits, axis=1, keepdims=0)
    proto = b.proto(label)
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(label, onnx.TensorProto.INT64, ["N"]))
    made = run(proto, samples(), macs=0.6)
    assert [part.view.tensor for part in made.damage.parts] == [logits]


def test_a_layer_that_nothing_compared_depends_on_is_left_alone() -> None:
    b = Build(seed=3)
    x = b.input("N", 11)
    seen, unseen = mlp(b, x, 5), mlp(b, x, 4)
    proto = b.proto(seen)
    proto.graph.output.append(onnx.helper.make_tensor_value_info(unseen, onnx.TensorProto.FLOAT, ["N", 4]))
    made = run(proto, samples(), macs=0.7, ignore_outputs=(unseen,))
    assert len(made.plan.choices) == 1
    assert lost(proto, made.proto, output=1).max() < 1e-9


def test_samples_of_one_class_are_said_to_be() -> None:
    b = Build(seed=3)
    rare = b.op("Softmax", b.op("Add", mlp(b, b.input("N", 11), 3), b.const(np.float32([9, 0, 0]))), axis=1)
    made = run(b.proto(rare), samples(), macs=0.85, force=True)
    assert [
        note for note in made.notes if "have the top class 0: losses of the other 2 classes cannot be counted" in note
    ]


def test_what_the_samples_cannot_decide_is_said(bundled) -> None:
    options = PruneOptions(threads=1, latency=False)
    made = onnxmi.prune(bundled / "digits-mlp.onnx", bundled / "digits-mlp.calib.npz", options)
    doubts = [note for note in made.notes if "cannot tell 1 point" in note]
    assert len(doubts) == 1
    assert doubts[0].startswith("accuracy of logits: undecided: 126 samples")


def test_the_result_is_reported_on_other_samples_than_the_search_chose_on(bundled) -> None:
    from onnxmi.pruning.session import start_session

    options = PruneOptions(threads=1)
    model = onnxmi.load(bundled / "digits-mlp.onnx")
    plain = start_session(model, bundled / "digits-mlp.calib.npz", options, 1 / 8).split
    searched = start_session(model, bundled / "digits-mlp.calib.npz", options, 1 / 4).split
    parts = [searched.fit, searched.validation, searched.search, searched.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1024))
    assert len(searched.search) > 100
    assert searched.test.tolist() == plain.test.tolist()
