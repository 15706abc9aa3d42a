"""Lean models: large tensors stay in files, and nothing else about the result changes (the limits are lowered here)."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.errors import DataError, ModelError
from onnxmi.model import Model, external_data, load, mapped
from onnxmi.model.editor import Editor
from onnxmi.model.graph import Graph
from onnxmi.model.load import checker_error
from onnxmi.runtime.session import open_session
from tests.cli.conftest import Workplace

SIZES = (6, 64, 50, 4)  # w0 has 1,536 bytes, w1 12,800, w2 800
QUICK = PruneOptions(keep=0.5, force=True, threads=1, latency=False)


@pytest.fixture
def low(monkeypatch, tmp_path):
    """Limits so low that small models are large; temporary files in a folder of their own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10_000)
    monkeypatch.setattr(mapped, "MIN_EXTERNAL_BYTES", 1_000)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return scratch


@pytest.fixture
def source(tmp_path, mlp, samples):
    """A folder with a model whose weights lie in `weights.bin`, aligned, and with samples."""
    bare, placed = external_data.split_tensors(mlp(SIZES), "weights.bin")
    (tmp_path / "model.onnx").write_bytes(bare.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(b"".join(map(bytes, external_data.data_blocks(placed))))
    np.savez(tmp_path / "calib.npz", x=samples(), labels=np.arange(40) % 4)
    return tmp_path


def away(proto):
    return [tensor.name for tensor in proto.graph.initializer if mapped.is_external(tensor)]


def places(proto):
    found = ({e.key: e.value for e in tensor.external_data} for tensor in proto.graph.initializer)
    return {place["location"] for place in found if place}


def data(proto):
    return proto.SerializeToString(deterministic=True)


# -- reading ---------------------------------------------------------------------------------------------------------


def test_external_data_stays_where_it_is(low, source, mlp):
    model = load(source / "model.onnx")
    assert away(model.proto) == ["w0", "w1"]
    assert places(model.proto) == {str((source / "weights.bin").resolve())[1:]}
    assert data(mapped.with_values_inside(model.proto)) == data(mlp(SIZES))
    assert list(low.iterdir()) == []


def test_a_small_model_is_held_whole(source, mlp):
    assert data(load(source / "model.onnx").proto) == data(mlp(SIZES))


def test_one_file_is_unpacked_into_a_temporary_one(low, tmp_path, mlp):
    onnx.save(mlp(SIZES), tmp_path / "m.onnx")
    model = load(tmp_path / "m.onnx")
    assert away(model.proto) == ["w0", "w1"]
    assert places(model.proto) == {str(next(low.glob("*/tensors")).resolve())[1:]}
    assert data(mapped.with_values_inside(model.proto)) == data(mlp(SIZES))


def test_a_model_in_memory_is_not_changed(low, mlp):
    proto = mlp(SIZES)
    model = Model.of(proto)
    assert away(model.proto) == ["w0", "w1"]
    assert away(proto) == []
    assert data(mapped.with_values_inside(model.proto)) == data(proto)
    assert data(proto) == data(mlp(SIZES))


def test_the_temporary_file_goes_with_the_model(low, mlp):
    model = Model.of(mlp(SIZES))
    assert len(list(low.iterdir())) == 1
    del model
    gc.collect()
    assert list(low.iterdir()) == []


def test_values_and_types_are_those_of_the_whole(low, source, mlp):
    graph, wanted = load(source / "model.onnx").graph, Graph(mlp(SIZES))
    for name in wanted.constants:
        assert np.array_equal(graph.constant(name), wanted.constant(name))
        assert graph.constant_dtype(name) == wanted.constant(name).dtype
        assert graph.constant_shape(name) == wanted.constant(name).shape
    with pytest.raises(ValueError, match="read-only"):
        graph.constant("w1")[0] = 0


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16", "int8"])
def test_types_of_whole_bytes_are_mapped(low, dtype):
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16) if dtype == "bfloat16" else np.dtype(dtype)
    value = np.arange(-700, 701).reshape(3, 467).astype(dtype)
    tensor = (scratch := mapped.SpillFile()).tensor("t", value)
    assert mapped.is_external(tensor)
    assert mapped.tensor_values(tensor).dtype == dtype
    assert mapped.tensor_values(tensor).tobytes() == value.tobytes()
    del scratch


def test_half_bytes_stay_in_the_message(low):
    value = np.ones(4_001).astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4))
    tensor = mapped.SpillFile().tensor("t", value)
    assert not mapped.is_external(tensor)
    assert np.array_equal(mapped.tensor_values(tensor), value)


@pytest.mark.parametrize("change", ["shift", "shorten"])
def test_what_cannot_be_mapped_is_loaded_as_ever(low, source, mlp, change):
    proto = onnx.load(source / "model.onnx", load_external_data=False)
    entries = {e.key: e for e in proto.graph.initializer[2].external_data}
    if change == "shift":  # to a place that no page of memory starts at
        entries["offset"].value = "4099"
        stored = (source / "weights.bin").read_bytes()
        (source / "weights.bin").write_bytes(stored[:4096] + b"\0\0\0" + stored[4096:])
        onnx.save(proto, source / "model.onnx")
        model = load(source / "model.onnx")
        assert data(mapped.with_values_inside(model.proto)) == data(mlp(SIZES))
        assert len(places(model.proto)) == 2  # this one was loaded, and put into a temporary file
        return
    with (source / "weights.bin").open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(ModelError, match=r"external data"):
        load(source / "model.onnx").graph.constant("w1").sum()


def test_a_folder_whose_name_is_no_text(low, source, mlp):
    folder = source / os.fsdecode(b"not utf-8: \xff")
    folder.mkdir()
    for name in ("model.onnx", "weights.bin"):
        (source / name).rename(folder / name)
    model = load(folder / "model.onnx")
    assert away(model.proto) == ["w0", "w1"]
    assert data(mapped.with_values_inside(model.proto)) == data(mlp(SIZES))


def test_the_package_does_not_need_a_working_directory(tmp_path):
    gone = tmp_path / "gone"
    code = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); import onnxmi.model"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


# -- running, checking, writing --------------------------------------------------------------------------------------


def test_a_lean_model_runs_without_a_copy_of_its_data(low, source, mlp, samples, monkeypatch):
    model, opened, real = load(source / "model.onnx"), [], onnxruntime.InferenceSession

    def opens(content, options, **settings):
        opened.append(content)
        return real(content, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opens)
    feeds, whole = {"x": samples()}, mlp(SIZES)
    for taps in (None, ["h0"]):
        got, wanted = (open_session(p, taps=taps, optimise=False).run(feeds) for p in (model.proto, whole))
        assert all(np.array_equal(got[name], wanted[name]) for name in wanted)
    assert len(opened[0]) < 3_000 < len(opened[1])
    assert list(low.iterdir()) == []


def test_the_checker_is_given_a_hole_instead_of_data(low, source, monkeypatch):
    model = load(source / "model.onnx")
    monkeypatch.setattr(external_data, "data_blocks", None)
    assert checker_error(model.proto) is None
    broken = onnx.ModelProto()
    broken.CopyFrom(model.proto)
    broken.graph.node[0].op_type = "NoSuchOperator"
    assert "NoSuchOperator" in checker_error(broken)


@pytest.mark.parametrize("as_external", [False, True])
def test_a_lean_model_is_written_whole(low, source, tmp_path, mlp, as_external):
    onnxmi.save(load(source / "model.onnx").proto, tmp_path / "out.onnx", external=as_external)
    (source / "weights.bin").unlink()
    assert (tmp_path / "out.onnx.data").exists() == as_external
    got, wanted = (Graph(proto) for proto in (onnx.load(tmp_path / "out.onnx"), mlp(SIZES)))
    assert all(np.array_equal(got.constant(name), wanted.constant(name)) for name in wanted.constants)


def test_the_bytes_are_those_that_writing_takes(low, source, tmp_path):
    model = load(source / "model.onnx")
    size = external_data.byte_size(model.proto)
    written = onnxmi.save(model.proto, tmp_path / "out.onnx", external=True)
    assert abs(written - size) < 200 + external_data.ALIGNMENT  # the gaps between tensors are not counted


# -- editing ---------------------------------------------------------------------------------------------------------


def test_an_edited_tensor_goes_to_the_temporary_file_and_equal_ones_once(low, source):
    model, value = load(source / "model.onnx"), np.ones((64, 49), np.float32)
    made = []
    for _ in range(2):
        editor = Editor(model.proto, model.spill_file)
        editor.set_constant("w1", value)
        editor.set_constant("b1", np.zeros(49, np.float32))
        made.append(editor.finish())
    assert away(made[0]) == ["w0", "w1"]
    assert np.array_equal(Graph(made[1]).constant("w1"), value)
    assert next(low.glob("*/tensors")).stat().st_size == value.nbytes


def test_a_full_disk_is_told(low, source, monkeypatch):
    model = load(source / "model.onnx")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped, "write", no_space)
    with pytest.raises(DataError, match=r"^/.*temporary file cannot be written: No space"):
        Editor(model.proto, model.spill_file).set_constant("w1", np.ones((64, 49), np.float32))


# -- end to end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repair", [True, False])
def test_a_lean_model_is_pruned_to_the_same_bytes(low, source, monkeypatch, repair):
    options = PruneOptions(keep=0.5, force=True, threads=1, latency=False, repair=repair)
    thin = onnxmi.prune(source / "model.onnx", source / "calib.npz", options)
    assert away(thin.analysis.model.proto) == ["w0", "w1"]
    monkeypatch.setattr(mapped, "MIN_MAPPED_BYTES", 10**9)
    fat = onnxmi.prune(source / "model.onnx", source / "calib.npz", options)
    assert data(thin.proto) == data(fat.proto)
    for one, other in ((thin.before, fat.before), (thin.after, fat.after)):
        assert (one.parameters, one.macs) == (other.parameters, other.macs)
        assert abs(one.size - other.size) < 200  # what refers to a data file, and to where in it


def test_what_prune_returns_stands_alone(low, mlp, samples):
    made = onnxmi.prune(mlp(SIZES), {"x": samples()}, QUICK).proto
    gc.collect()
    assert list(low.iterdir()) == []
    assert open_session(made).run({"x": samples()})["y"].shape == (40, 4)


def test_what_apply_returns_stands_alone(low, mlp, samples):
    plan = onnxmi.prune(mlp(SIZES), {"x": samples()}, QUICK).plan
    made = onnxmi.apply(mlp(SIZES), plan).model
    gc.collect()
    assert list(low.iterdir()) == []
    assert open_session(made).run({"x": samples()})["y"].shape == (40, 4)


def test_the_commands_leave_no_temporary_files(low, source, monkeypatch):
    place = Workplace(source, monkeypatch)
    printed = json.loads(
        place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "--json", "--no-repair")
    )
    first = place.contents()
    gc.collect()
    assert list(low.iterdir()) == []
    place.succeeds("apply", "model.onnx", printed["plan"], "-o", "again.onnx")
    assert place.contents()["again.onnx.data"] == first["model.pruned.onnx.data"]
