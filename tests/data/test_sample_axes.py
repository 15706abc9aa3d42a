"""Where the samples are: found by the model's batch, said by the user, and refused where the two contradict."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi.data.calibration import check_calibration
from onnxmi.data.sources import as_calibration
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model.batch_axis import batch_axes
from tests.support.interfaces import taking

N, T, F, H = 11, 5, 7, 3


def zeros(*shape):
    return np.zeros(shape, np.float32)


def checked(arrays, axes=None, **inputs):
    return check_calibration(arrays, taking(**inputs).graph, sample_axes=axes)


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ({"x": ("batch", F), "state": (2, "batch", H)}, {"x": 0, "state": 1}),
        ({"x": ("time", "batch", F), "h": (1, "batch", H)}, {"x": 1, "h": 1}),
        ({"x": ("T", "B", F)}, {"x": 1}),
        ({"x": ("time", "items", F), "lengths": ("items",)}, {"x": 1, "lengths": 0}),
        ({"x": ("s0", F), "state": (2, "s0", H)}, {"x": 0, "state": 1}),
        ({"x": (None, None), "state": (2, None, H), "sr": ()}, {"x": 0, "state": 1}),
        ({"x": ("batch", "time"), "past": ("batch", 4, "past", H)}, {"x": 0, "past": 0}),
        ({"x": (1, 3, "h", "w"), "mask": (1, "h", "w")}, {}),
        ({"x": ("N", "C", "W")}, {"x": 0}),
        ({"x": (None, "width"), "y": (None, "width")}, {"x": 0, "y": 0}),
        ({"x": ("2*batch", "k")}, {"x": 0}),
        ({"x": ("B", "N", 3)}, {"x": 0}),
    ],
    ids=str,
)
def test_the_batch_of_the_model_tells_the_axis(inputs, axes):
    assert batch_axes(taking(**inputs).graph.inputs) == axes


@pytest.mark.parametrize("dims", [(2, "batch", H), (2, None, H)])
def test_states_are_fed_along_their_own_axis(dims):
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(N, F)).astype(np.float32), rng.normal(size=(2, N, H)).astype(np.float32)
    data = checked({"x": x, "state": state}, x=(dims[1], F), state=dims)
    assert (data.count, data.axes) == (N, {"state": 1})
    assert "state: the samples are on axis 1" in data.notes
    feeds = data.feed(np.array([4, 2]))
    assert np.array_equal(feeds["state"], state[:, [4, 2]])
    assert data.fed(feeds) == 2
    assert len(np.unique(data.fingerprints)) == N


def test_a_fixed_batch_is_found_behind_the_first_axis():
    data = checked({"x": zeros(N, F), "state": zeros(2, N, H)}, x=(1, F), state=(2, 1, H))
    assert (data.count, data.step, data.axes) == (N, 1, {"state": 1})
    assert data.feed(np.array([3]))["state"].shape == (2, 1, H)


@pytest.mark.parametrize("shape", [(N, 2, H), (2, H, N), (N, N, H)])
def test_a_layout_that_contradicts_the_model_is_refused(shape):
    with pytest.raises(CalibrationError, match=r"the model expects \(2, batch, 3\) with the samples on axis 1"):
        checked({"x": zeros(N, F), "state": zeros(*shape)}, x=("batch", F), state=(2, "batch", H))


def test_time_first_with_samples_first_is_refused():
    with pytest.raises(CalibrationError, match="sample counts disagree: 'x' has 5, 'h' has 11"):
        checked({"x": zeros(N, T, F), "h": zeros(1, N, H)}, x=("time", "batch", F), h=(1, "batch", H))


def test_one_state_for_all_samples_is_refused():
    with pytest.raises(CalibrationError, match="sample counts disagree"):
        checked({"x": zeros(N, F), "state": zeros(2, 1, H)}, x=("batch", F), state=(2, "batch", H))


@pytest.mark.parametrize("axis", [1, -1])
def test_the_axis_can_be_said(axis):
    data = checked({"x": zeros(F, N)}, {"x": axis}, x=("a", "c"))
    assert (data.count, data.axes) == (N, {"x": 1})
    assert data.feed(np.array([2, 3, 5]))["x"].shape == (F, 3)


def test_what_is_said_of_no_input_or_axis_is_refused():
    with pytest.raises(UsageError, match="the model has no input 'z'"):
        checked({"x": zeros(N, F)}, {"z": 0}, x=("a", "c"))
    with pytest.raises(UsageError, match="has 2 axes"):
        checked({"x": zeros(N, F)}, {"x": 2}, x=("a", "c"))
    with pytest.raises(UsageError, match="expected an input and its axis"):
        onnxmi.source({"x": zeros(N, F)}, sample_axis="x")


def test_what_the_user_says_holds_for_feeds():
    feeds = [{"x": np.full((F, 1), value, np.float32)} for value in range(N)]
    data = as_calibration(onnxmi.source(feeds, sample_axis={"x": 1}), taking(x=("a", "c")))
    assert data.arrays["x"].shape == (F, N)
    assert np.array_equal(data.feed(np.array([4, 1]))["x"], np.tile([4.0, 1.0], (F, 1)))
