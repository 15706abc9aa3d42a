"""Models with states are judged as they are used: each goes on with its own states, not with the original's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxmi
from onnxmi.data.calibration import Calibration, arrays_of, check_calibration
from onnxmi.data.sources import as_calibration
from onnxmi.data.streams import STATES
from onnxmi.errors import CalibrationError
from onnxmi.evaluation.streams import runs_of
from onnxmi.model import Model
from onnxmi.runtime.session import open_session
from onnxmi.typing import Array, Samples
from tests.support.build import Build

SIZE, HIDDEN, COUNT = 5, 7, 37
IDS = np.repeat([4, 2, 4], [19, 7, 11])
STATE, NEXT = "state", "stateN"


def recurrent_cell(batch: str | int) -> onnx.ModelProto:
    b = Build(seed=0)
    x, state = b.input(batch, SIZE), b.input(batch, HIDDEN, name=STATE)
    following = b.op("Tanh", b.op("Add", b.gemm(x, SIZE, HIDDEN), b.gemm(state, HIDDEN, HIDDEN)))
    proto = b.proto(b.gemm(following, HIDDEN, 3), b.op("Identity", following))
    old = proto.graph.output[1].name
    next(node for node in proto.graph.node if old in node.output).output[0] = NEXT
    proto.graph.output[1].name = NEXT
    return onnx.shape_inference.infer_shapes(proto)


def changed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Another model of the same interface: a bias is off."""
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    vector = next(tensor for tensor in other.graph.initializer if list(tensor.dims) == [HIDDEN])
    vector.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(vector) + np.float32(0.25), vector.name))
    return other


def read(proto: onnx.ModelProto) -> Calibration:
    x = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)
    return as_calibration(onnxmi.source({"x": x, "ids": IDS}, sequences="ids"), Model.of(proto))


def states_after(proto: onnx.ModelProto, data: Calibration, samples: Samples, size: int = 3) -> Array:
    """The state that a model comes to after each of the samples."""
    after = np.full((COUNT, HIDDEN), np.nan)
    for chosen, _, results in runs_of(open_session(proto), data, samples, size):
        after[chosen] = results[NEXT][: len(chosen)]
    return after


@pytest.mark.parametrize("batch", ["batch", 4])
def test_a_model_goes_on_with_its_own_states(batch: str | int) -> None:
    proto = recurrent_cell(batch)
    data, samples = read(recurrent_cell("batch")), np.arange(COUNT)
    data = check_calibration(arrays_of(data), Model.of(proto).graph)
    others = changed(recurrent_cell("batch"))
    session, expected = open_session(others), np.empty((COUNT, HIDDEN))
    for number in np.unique(data.sequences):
        own = np.flatnonzero(data.sequences == number)
        state = data.arrays[STATE][own[:1]]
        for sample in own:
            state = session.run({"x": data.arrays["x"][[sample]], STATE: state})[NEXT]
            expected[sample] = state[0]
    np.testing.assert_allclose(states_after(changed(proto), data, samples), expected, atol=1e-5)
    on_states_of_the_original = session.run(dict(data.arrays))[NEXT]
    assert np.abs(expected - on_states_of_the_original).max() > 0.01


def test_the_original_answers_as_it_does_on_its_states() -> None:
    proto = recurrent_cell("batch")
    data = read(proto)
    on_its_states = open_session(proto).run(dict(data.arrays))[NEXT]
    np.testing.assert_allclose(states_after(proto, data, np.arange(COUNT)), on_its_states, atol=1e-5)


def test_a_sample_without_its_predecessor_starts_from_the_state_that_it_holds() -> None:
    proto = recurrent_cell("batch")
    data, other = read(proto), changed(proto)
    samples = np.array([20, 3, 5, 4, 30])
    found = states_after(other, data, samples)
    session = open_session(other)
    for first in (20, 3, 30):
        feeds = {name: array[[first]] for name, array in data.arrays.items()}
        np.testing.assert_allclose(found[[first]], session.run(feeds)[NEXT], atol=1e-5)
    after = session.run({"x": data.arrays["x"][[4]], STATE: found[[3]].astype(np.float32)})[NEXT]
    np.testing.assert_allclose(found[[4]], after, atol=1e-5)
    assert np.isnan(found).any(1).sum() == COUNT - len(samples)


def test_which_states_go_on_is_kept_in_a_file_of_samples() -> None:
    proto = recurrent_cell("batch")
    graph = Model.of(proto).graph
    arrays = arrays_of(read(proto))
    assert check_calibration(arrays, graph).states == {STATE: NEXT}
    for wrong in (np.array([["h", NEXT]]), np.array([STATE]), np.ones((1, 2))):
        with pytest.raises(CalibrationError, match="expected pairs of an input of the model and an output"):
            check_calibration({**arrays, STATES: wrong}, graph)
