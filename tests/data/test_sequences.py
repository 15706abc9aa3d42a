"""Samples that follow each other: each meets the state that the model comes to, however states are laid out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.calibration import arrays_of
from onnxmi.data.sources import as_calibration
from onnxmi.data.sources.growing import DEPTH
from onnxmi.data.sources.sequences import STRETCH
from onnxmi.data.splits import split_samples
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import Model
from onnxmi.runtime.session import open_session
from tests.support.build import Build

F, H, N = 5, 7, 23


def cell(batch="batch", *, output="stateN", layout="first"):
    """A recurrent cell whose state (2, batch, H), or (batch, 2, H), is a fast and a slow memory."""
    b = Build(seed=0)
    axis = 0 if layout == "first" else 1
    x = b.input(batch, F)
    dims = (2, batch, H) if layout == "first" else (batch, 2, H)
    state = b.input(*dims, name="state")
    fast, slow = (b.op("Gather", state, b.const(np.array(place)), axis=axis) for place in (0, 1))
    hidden = b.op("Relu", b.gemm(x, F, 11))
    new = b.op("Tanh", b.op("Add", b.gemm(hidden, 11, H), b.gemm(fast, H, H)))
    mixed = b.op("Add", new, b.op("Mul", slow, b.const(np.array(0.5, np.float32))))
    parts = [b.op("Unsqueeze", one, b.ints(axis)) for one in (new, mixed)]
    y = b.gemm(mixed, H, 3)
    joined = b.op("Concat", *parts, axis=axis)
    proto = b.proto(y, joined)
    for node in proto.graph.node:
        node.output[:] = [output if name == joined else name for name in node.output]
    proto.graph.output[1].name = output
    return Model.of(onnx.shape_inference.infer_shapes(proto))


def sounds(count=N):
    return np.random.default_rng(0).normal(size=(count, F)).astype(np.float32)


def stepped(model, x, starts, state, axis=1):
    """States of samples, one after the other; `starts` says where a sequence begins."""
    session, met = open_session(model.proto), []
    zero = state
    for one, start in zip(x, starts, strict=True):
        state = zero if start else state
        met.append(state)
        state = list(session.run({"x": one[np.newaxis], "state": state}).values())[1]
    return np.concatenate(met, axis)


def zeros(axis=1):
    return np.zeros((2, 1, H) if axis else (1, 2, H), np.float32)


@pytest.mark.parametrize(("layout", "axis"), [("first", 1), ("last", 0)])
@pytest.mark.parametrize("batch", ["batch", 1])
def test_states_are_run_on_from_sample_to_sample(layout, axis, batch):
    model = cell(batch, layout=layout)
    data = as_calibration(onnxmi.source({"x": sounds()}, sequences=True), model)
    expected = stepped(model, sounds(), [True] + [False] * (N - 1), zeros(axis), axis)
    assert np.allclose(data.arrays["state"], expected, atol=1e-6)
    assert data.axis("state") == axis
    assert f"states were run on through {N} samples in 1 sequence: stateN -> state" in data.notes


IDS = np.array([3, 3, 5, 3, 5, 5, 3] + [9] * (N - 7))


@pytest.mark.parametrize("form", ["file", "array"])
def test_a_number_for_each_sample_says_what_belongs_together(tmp_path, form):
    model = cell()
    arrays = {"x": sounds()} | ({"ids": IDS} if form == "array" else {})
    np.save(tmp_path / "ids.npy", IDS)
    told = "ids" if form == "array" else str(tmp_path / "ids.npy")
    data = as_calibration(onnxmi.source(arrays, sequences=told), model)
    met = np.asarray(data.arrays["state"])
    for number in (3, 5, 9):
        own = np.flatnonzero(number == IDS)
        expected = stepped(model, sounds()[own], [True] + [False] * (len(own) - 1), zeros())
        assert np.allclose(met[:, own], expected, atol=1e-6)


def test_where_sequences_start_may_be_given():
    start = np.random.default_rng(1).normal(size=(2, 1, H)).astype(np.float32)
    data = as_calibration(onnxmi.source({"x": sounds(), "state": start}, sequences=True), cell())
    expected = stepped(cell(), sounds(), [True] + [False] * (N - 1), start)
    assert np.allclose(data.arrays["state"], expected, atol=1e-6)


def test_a_state_that_no_name_tells_can_be_said():
    model = cell(output="quux")
    with pytest.raises(UsageError, match="--state OUTPUT=INPUT says which"):
        as_calibration(onnxmi.source({"x": sounds()}, sequences=True), model)
    data = as_calibration(onnxmi.source({"x": sounds()}, sequences=True, states="quux=state"), model)
    assert np.asarray(data.arrays["state"])[:, 1:].any()
    with pytest.raises(UsageError, match="no input or output 'q'"):
        as_calibration(onnxmi.source({"x": sounds()}, sequences=True, states={"q": "state"}), model)


def test_what_is_wrong_with_sequences_is_one_line():
    model = cell()
    with pytest.raises(UsageError, match=r"neither an \.npy file nor an array"):
        as_calibration(onnxmi.source({"x": sounds()}, sequences="ids"), model)
    with pytest.raises(CalibrationError, match="3 numbers of sequences for 23 samples"):
        as_calibration(onnxmi.source({"x": sounds(), "ids": np.arange(3)}, sequences="ids"), model)
    with pytest.raises(CalibrationError, match="expected a whole number for each sample"):
        as_calibration(onnxmi.source({"x": sounds(), "ids": np.ones(N)}, sequences="ids"), model)


def decoder(batch="batch", length="past"):
    """Means over a cache and what is new, where a mask says so."""
    b = Build(seed=0)
    x, past = b.input(batch, 1, F), b.input(batch, length, F, name="past_key_values")
    mask = b.input(batch, "past + new", name="attention_mask", dtype=np.int64)
    grown = b.op("Concat", past, x, axis=1)
    weights = b.op("Unsqueeze", b.op("Cast", mask, to=onnx.TensorProto.FLOAT), b.ints(2))
    total = b.op("ReduceSum", b.op("Mul", grown, weights), b.ints(1), keepdims=0)
    proto = b.proto(b.op("MatMul", b.op("Tanh", total), b.weight(F, 3)), grown)
    return Model.of(proto), f"{proto.graph.output[1].name}=past_key_values"


def test_a_sample_meets_the_cache_of_those_before_it():
    model, pairs = decoder()
    ids = np.array([3] * 9 + [5] * 3 + [7] * (N - 12))
    mask = np.arange(N)[:, None] % 2
    samples = {"x": sounds()[:, None], "attention_mask": mask, "ids": ids, "labels": np.arange(N)}
    data = as_calibration(onnxmi.source(samples, sequences="ids", states=pairs), model)
    kept = np.array([at for at in range(N) if at >= DEPTH and ids[at - DEPTH] == ids[at]])
    assert data.count == len(kept)
    assert np.array_equal(data.labels, kept)
    for row, at in enumerate(kept):
        window = np.arange(at - DEPTH, at + 1)
        assert np.array_equal(np.asarray(data.arrays["x"])[row, 0], sounds()[at])
        assert np.array_equal(np.asarray(data.arrays["past_key_values"])[row], sounds()[window[:-1]])
        assert np.array_equal(np.asarray(data.arrays["attention_mask"])[row], mask[window, 0])
    assert len(set(data.sequences[ids[kept] == 3]) & set(data.sequences[ids[kept] == 7])) == 0
    assert any(note.startswith(f"caches grow: each of {len(kept)} samples") for note in data.notes)


@pytest.mark.parametrize(("batch", "count"), [("batch", DEPTH), (1, N)])
def test_a_cache_that_grows_needs_samples_before_and_a_free_batch(batch, count):
    model, pairs = decoder(batch)
    samples = {"x": sounds()[:count, None], "attention_mask": np.ones((count, 1), np.int64)}
    with pytest.raises(CalibrationError, match="a cache that grows needs sequences of more than"):
        as_calibration(onnxmi.source(samples, sequences=True, states=pairs), model)


def test_stretches_of_sequences_are_split_together():
    """Neighbors are alike: none of a stretch is fitted to where another is reported on."""
    ids = np.repeat([4, 2], [150, 90])
    data = as_calibration(onnxmi.source({"x": sounds(240), "ids": ids}, sequences="ids"), cell())
    stretch = np.concatenate([np.arange(150) // STRETCH, 100 + np.arange(90) // STRETCH])
    split = split_samples(data, seed=0)
    parts = [set(stretch[part].tolist()) for part in (split.fit, split.validation, split.test)]
    shared = sum(len(a & b) for a, b in ((parts[0], parts[1]), (parts[0], parts[2]), (parts[1], parts[2])))
    assert shared <= 2  # a part is cut off within a stretch at most
    again = as_calibration(arrays_of(data), cell())
    assert np.array_equal(again.sequences, data.sequences)
    assert np.array_equal(split_samples(again, seed=0).test, split.test)
