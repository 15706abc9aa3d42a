"""Samples as users have them: feeds, readers, arrays of other libraries; one line where that fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.errors import CalibrationError
from onnxmi.model import Model
from tests.support.build import Build


@pytest.fixture
def model(mlp):
    return Model.of(mlp())


@pytest.fixture
def two_inputs(mlp):
    return Model.of(mlp(inputs=("x", "z")))


class Reader:
    """As onnxruntime's CalibrationDataReader: no iterator, None at the end."""

    def __init__(self, feeds):
        self._feeds = iter(feeds)

    def get_next(self):
        return next(self._feeds, None)


class Tensor:
    """As a tensor of another library."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


class OnGpu:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu() first.")


def refused(source, model):
    with pytest.raises(CalibrationError) as caught:
        as_calibration(source, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- feeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, iter, Reader, lambda feeds: (feed for feed in feeds), tuple])
@pytest.mark.parametrize("sizes", [[1] * 7, [3, 1, 3], [7]], ids=str)
def test_feeds_are_put_together(model, samples, form, sizes):
    x, labels = samples(7), np.arange(7) % 3
    ends = np.cumsum(sizes)
    feeds = [
        {"x": x[end - size : end], "labels": labels[end - size : end]} for size, end in zip(sizes, ends, strict=True)
    ]
    data = as_calibration(form(feeds), model)
    assert data.count == 7
    assert np.array_equal(data.arrays["x"], x)
    assert np.array_equal(data.labels, labels)
    assert np.array_equal(data.fingerprints, as_calibration({"x": x, "labels": labels}, model).fingerprints)


def test_a_pruned_model_is_the_same_from_feeds(mlp, samples):
    options = onnxmi.PruneOptions(keep=0.5, threads=1, latency=False)
    whole = onnxmi.prune(mlp(), {"x": samples()}, options)
    fed = onnxmi.prune(mlp(), Reader({"x": x[np.newaxis]} for x in samples()), options)
    assert fed.model.SerializeToString() == whole.model.SerializeToString()


def test_a_label_of_one_sample_needs_no_axis(model, samples):
    data = as_calibration(({"x": x[np.newaxis], "labels": number} for number, x in enumerate(samples(5))), model)
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


def test_what_numpy_takes_is_an_array(two_inputs, samples):
    data = as_calibration([{"x": Tensor(samples(2)), "z": samples(2).tolist()}], two_inputs)
    assert all(np.array_equal(data.arrays[name], samples(2)) for name in "xz")
    assert all(array.dtype == np.float32 for array in data.arrays.values())


def test_an_input_without_samples_is_in_every_feed(samples):
    build = Build()
    model = Model.of(build.proto(build.op("Mul", build.input("n", 5), build.input(5, name="scale"))))
    x, scale = samples(6, 5), np.arange(5, dtype=np.float32)
    data = as_calibration(({"x": x[i : i + 2], "scale": scale} for i in (0, 2, 4)), model)
    assert (data.count, data.whole) == (6, {"scale"})
    assert np.array_equal(data.arrays["scale"], scale)
    message = refused(({"x": x[i : i + 2], "scale": scale + i} for i in (0, 2, 4)), model)
    assert message.startswith("calibration, feed 2: 'scale' has no axis of samples and differs")


def test_a_fixed_batch_is_fed_as_it_is(mlp, samples):
    data = as_calibration([{"x": samples(4)}, {"x": samples(4, seed=1)}], Model.of(mlp(batch=4)))
    assert (data.count, data.step) == (8, 4)


def test_lengths_that_differ_are_refused_with_what_to_do():
    build = Build()
    model = Model.of(build.proto(build.op("Relu", build.input("n", "length", name="ids"))))
    feeds = [{"ids": np.ones((1, length), np.float32)} for length in (7, 7, 9)]
    assert refused(feeds, model) == (
        "calibration, feed 3: 'ids' has shape (1, 9), in the feeds before it (1, 7); pad all samples to one length,"
        " with a mask if the model has one, or give those of one length"
    )


def test_casts_are_said_once(model, samples):
    data = as_calibration([{"x": samples(3).astype(np.float64)}] * 5, model)
    assert data.notes == ("x: cast from float64 to float32",)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ([], "calibration: no feed came; what can be read only once may have been read before"),
        (Reader([]), "calibration: no feed came"),
        (["a", "b"], "calibration, feed 1: is of type str, not a mapping"),
        (b"abc", "calibration, feed 1: is of type int, not a mapping"),
        ([np.zeros((2, 6))], "calibration, feed 1: is of type ndarray, not a mapping"),
        ([{"y": np.zeros((1, 6))}], "calibration, feed 1: no array named 'x'"),
        ([{"x": np.zeros(6)}], "calibration, feed 1: array 'x' has shape (6,), the model expects 2 axes"),
        ([{"x": np.zeros((1, 6))}, {"x": np.full((1, 6), np.nan)}], "calibration, feed 2: array 'x' has 6 values that"),
        (
            [{"x": np.zeros((1, 6)), "labels": [1]}, {"x": np.zeros((1, 6))}],
            "calibration, feed 2: has other arrays with samples in them than the feeds before it",
        ),
    ],
)
def test_feeds_that_do_not_fit_are_one_line(model, feeds, message):
    assert refused(feeds, model).startswith(message)


# -- other things -----------------------------------------------------------------------------------------------------


def test_an_array_alone_is_the_only_input(model, two_inputs, samples):
    for source in (samples(5), Tensor(samples(5))):
        assert np.array_equal(as_calibration(source, model).arrays["x"], samples(5))
    message = refused(samples(5), two_inputs)
    assert message == "calibration: an array alone does not say which input it is; give a mapping of 'x', 'z'"


@pytest.mark.parametrize("source", [None, 3, object], ids=repr)
def test_what_holds_no_samples_is_one_line(model, source):
    assert refused(source, model).startswith(
        "calibration: expected the path of a file or folder, a mapping of arrays, or"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (OnGpu(), "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first."),
        ([[1.0, 2.0], [3.0]], "inhomogeneous shape"),
    ],
)
def test_what_numpy_does_not_take_is_one_line(model, value, message):
    told = refused({"x": value}, model)
    assert told.startswith("calibration: 'x' cannot be read as an array: ")
    assert message in told


@pytest.mark.parametrize("value", [["a", "b"], None, [None, None], {"a": 1}], ids=repr)
def test_arrays_of_other_things_are_one_line(model, value):
    assert "'x'" in refused({"x": value}, model)


def test_a_mapping_of_another_type(model, samples):
    class Lazy(Mapping):
        def __getitem__(self, name):
            return samples(3)

        def __iter__(self):
            return iter(["x"])

        def __len__(self):
            return 1

    assert as_calibration(Lazy(), model).count == 3


def test_every_function_takes_them(mlp, samples, tmp_path):
    def feeds():
        return ({"x": x[np.newaxis]} for x in samples())

    proto = mlp()
    onnx.save(proto, tmp_path / "m.onnx")
    assert onnxmi.collect(proto, feeds(), threads=1).samples
    assert onnxmi.inspect(proto, feeds()).layers
    curve = onnxmi.sweep(proto, feeds(), by="macs", shares=[0.6], threads=1)
    assert len(curve.points) == 1
    timed = onnxmi.bench(proto, proto, data=feeds(), threads=1, seconds=0.05, operators=False, memory=False)
    assert len(timed.rows) == 2
    assert onnxmi.check(tmp_path / "m.onnx", baseline=proto, data=feeds(), max_drop=0.5).passed
