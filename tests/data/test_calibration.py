"""The calibration file is checked against the model before any work starts: one line says what is wrong."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from onnxmi import check_calibration, load_calibration
from onnxmi.data.splits import split_samples
from onnxmi.errors import CalibrationError
from onnxmi.model import Model


@pytest.fixture
def graph(mlp):
    return Model.of(mlp()).graph


@pytest.fixture
def two_inputs(mlp):
    return Model.of(mlp(inputs=("x", "z"))).graph


def refused(arrays, graph):
    with pytest.raises(CalibrationError) as caught:
        check_calibration(arrays, graph, "calib.npz")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("calib.npz: ")
    return message


def refused_file(path, graph):
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path, graph)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


# -- the file --------------------------------------------------------------------------------------------------------


def test_reads_arrays_and_labels(tmp_path, graph, samples):
    np.savez(tmp_path / "c.npz", x=samples(5), labels=np.arange(5))
    data = load_calibration(tmp_path / "c.npz", graph)
    assert data.count == 5
    assert data.step is None
    assert np.array_equal(data.arrays["x"], samples(5))
    assert data.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.notes == ()


def test_missing_file(tmp_path, graph):
    assert "No such file" in refused_file(tmp_path / "none.npz", graph)


def test_folder(tmp_path, graph):
    assert "is a folder" in refused_file(tmp_path, graph)


@pytest.mark.parametrize(
    "content",
    [b"", b"x,y\n1,2\n", b"\x80\x04K\x01.", bytes(range(256)) * 4, b"PK\x03\x04"],
    ids=["empty", "text", "pickle", "bytes", "zip-start"],
)
def test_what_is_no_archive_is_called_unreadable(tmp_path, graph, content):
    (tmp_path / "c.npz").write_bytes(content)
    message = refused_file(tmp_path / "c.npz", graph)
    assert "not a readable .npz file" in message
    assert "Python objects" not in message


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_archive(tmp_path, graph, samples, share):
    path = tmp_path / "c.npz"
    np.savez_compressed(path, x=samples(200))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "not a readable .npz file" in refused_file(path, graph)


def test_archive_with_damaged_content(tmp_path, graph, samples):
    path = tmp_path / "c.npz"
    np.savez_compressed(path, x=samples(200))
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    assert "not a readable .npz file" in refused_file(path, graph)


def test_archive_of_other_things(tmp_path, graph):
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("x", "no array")
    assert "'x' is not an array" in refused_file(tmp_path / "c.npz", graph)


def test_single_array(tmp_path, graph, samples):
    np.save(tmp_path / "c.npy", samples())
    assert "is a single array; save with numpy.savez" in refused_file(tmp_path / "c.npy", graph)


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


def test_objects_are_never_unpickled(tmp_path, graph):
    np.savez(tmp_path / "c.npz", x=np.array([_Bomb()], dtype=object))
    assert "Python objects" in refused_file(tmp_path / "c.npz", graph)


# -- names -----------------------------------------------------------------------------------------------------------


def test_missing_array_names_the_inputs(graph, samples):
    told = refused({"y": samples(), "labels": np.arange(5)}, graph)
    assert told == "calib.npz: no array named 'x', but 'y', 'labels'"


def test_extra_array(graph, samples):
    assert "'extra' is not an input" in refused({"x": samples(), "extra": samples()}, graph)


def test_names_are_case_sensitive(graph, samples):
    assert "no array named 'x'" in refused({"X": samples()}, graph)


def test_nothing_in_it(graph):
    assert "no array named 'x', but no arrays" in refused({}, graph)


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int16", "bool"])
def test_safe_casts_are_done_and_said(graph, dtype):
    data = check_calibration({"x": np.ones((4, 6), dtype=dtype)}, graph)
    assert data.arrays["x"].dtype == np.float32
    assert data.notes == (f"x: cast from {dtype} to float32",)


def test_byte_order_is_no_obstacle(graph, samples):
    data = check_calibration({"x": samples().astype(">f4")}, graph)
    assert data.arrays["x"].dtype == np.float32
    assert np.array_equal(data.arrays["x"], samples())


@pytest.mark.parametrize("dtype", ["int64", "complex64", "U3", "datetime64[s]"])
def test_unsafe_casts_are_refused(graph, dtype):
    assert f"has dtype {np.dtype(dtype)}" in refused({"x": np.ones((4, 6)).astype("int64").astype(dtype)}, graph)


def test_objects_in_memory_are_refused(graph):
    assert "Python objects" in refused({"x": np.full((4, 6), 1.0, dtype=object)}, graph)


@pytest.mark.filterwarnings("error")
def test_values_beyond_the_range_of_the_cast(graph):
    assert "do not fit float32" in refused({"x": np.full((4, 6), 1e300)}, graph)


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(graph, samples, bad):
    array = samples()
    array[3, 2] = array[4, 1] = bad
    assert "'x' has 2 values that are NaN or infinite" in refused({"x": array}, graph)


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_wrong_rank(graph, samples):
    assert "the model expects 2 axes (batch, 6)" in refused({"x": samples().reshape(40, 2, 3)}, graph)


def test_wrong_fixed_size(graph, samples):
    assert "has shape (40, 5), the model expects (batch, 6)" in refused({"x": samples()[:, :5]}, graph)


def test_scalar(graph):
    assert "expects 2 axes" in refused({"x": np.float32(1)}, graph)


def test_no_samples(graph, samples):
    assert "has no samples" in refused({"x": samples()[:0]}, graph)


def test_sample_counts_that_disagree(two_inputs, samples):
    message = refused({"x": samples(9), "z": samples(8)}, two_inputs)
    assert "9" in message
    assert "8" in message


@pytest.fixture
def renamed(mlp):
    """A graph whose inputs x and z name their first axes differently."""

    def make(first, second):
        proto = mlp(inputs=("x", "z"))
        for value, symbol in zip(proto.graph.input, (first, second), strict=True):
            value.type.tensor_type.shape.dim[0].dim_param = symbol
        return Model.of(proto).graph

    return make


def test_counts_that_disagree_without_a_common_symbol(renamed, samples):
    message = refused({"x": samples(9), "z": samples(8)}, renamed("x_axis_0", "z_axis_0"))
    assert "'x' has 9" in message
    assert "'z' has 8" in message


def test_the_axis_called_batch_counts_the_samples(renamed, samples):
    data = check_calibration({"x": samples(9), "z": samples(8)}, renamed("length", "Batch_size"))
    assert (data.count, data.whole) == (8, {"x"})


def test_labels_tell_which_axis_counts_the_samples(renamed, samples):
    data = check_calibration({"x": samples(9), "z": samples(8), "labels": np.zeros(9, dtype=int)}, renamed("a", "b"))
    assert (data.count, data.whole) == (9, {"z"})


def test_an_input_of_fixed_size_is_fed_whole_even_if_it_looks_sample_wise(mlp, samples):
    proto = mlp(inputs=("x", "t"))
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 3
    data = check_calibration({"x": samples(3), "t": samples(3)}, Model.of(proto).graph)
    assert (data.count, data.whole) == (3, {"t"})


def test_what_is_fed_whole_is_said(mlp, samples):
    proto = mlp(inputs=("x", "z", "t"))
    proto.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 1
    data = check_calibration({"x": samples(9), "z": samples(9), "t": samples(1)}, Model.of(proto).graph)
    assert data.whole == {"t"}
    assert data.notes == ("t: the same for all samples (its first size is 1, not 9)",)


def test_one_sample(graph, samples):
    data = check_calibration({"x": samples(1)}, graph)
    split = split_samples(data, 0)
    assert data.count == 1
    assert (split.fit.tolist(), split.validation.tolist(), split.test.tolist()) == ([0], [], [0])


def test_fixed_batch_is_filled_by_repetition(mlp, samples):
    data = check_calibration({"x": samples(7)}, Model.of(mlp(batch=4)).graph)
    batches = list(data.batches(np.arange(7), 32))
    assert [chosen.tolist() for chosen, _ in batches] == [[0, 1, 2, 3], [4, 5, 6]]
    assert all(feeds["x"].shape == (4, 6) for _, feeds in batches)
    assert np.array_equal(batches[1][1]["x"][:3], samples(7)[4:])


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [39, 41], ids=["fewer", "more"])
def test_labels_of_another_count(graph, samples, count):
    message = refused({"x": samples(40), "labels": np.zeros(count, dtype=int)}, graph)
    assert f"labels have shape ({count},)" in message
    assert "40 samples" in message


@pytest.mark.parametrize(
    "labels", [np.zeros(40), np.zeros((40, 3), dtype=int), np.int64(3), np.full(40, "cat")], ids=lambda a: str(a.dtype)
)
def test_labels_that_are_not_one_class_a_sample(graph, samples, labels):
    assert "expected one class for each of 40 samples" in refused({"x": samples(40), "labels": labels}, graph)


def test_labels_in_a_column(graph, samples):
    assert check_calibration({"x": samples(3), "labels": np.array([[1], [2], [0]])}, graph).labels.tolist() == [1, 2, 0]


def test_an_input_may_be_called_labels(mlp, samples):
    data = check_calibration({"labels": samples(3)}, Model.of(mlp(inputs=("labels",))).graph)
    assert data.labels is None
    assert data.count == 3


# -- dividing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 8, 9, 1000])
def test_every_sample_is_dealt_once(graph, samples, count):
    data = check_calibration({"x": samples(count)}, graph)
    split = split_samples(data, 3)
    assert sorted([*split.fit, *split.validation, *split.test]) == list(range(count))
    assert 1 <= len(split.test) <= max(count / 4, 1)
    assert np.array_equal(split.test, split_samples(data, 3).test)
