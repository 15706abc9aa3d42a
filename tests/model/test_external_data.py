"""Models with external data, and models over the limit (lowered here): read, run, checked, cut and written."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import onnxmi
from onnxmi.errors import DataError, ModelError
from onnxmi.model import Model, external_data, load, save
from onnxmi.model.load import checker_error
from onnxmi.model.save import write_together
from onnxmi.runtime.session import open_session
from tests.cli.conftest import Workplace
from tests.model.test_files import no_space

SIZES = (6, 60, 50, 4)
OUT = "model.pruned.onnx"


@pytest.fixture
def large(monkeypatch, tmp_path, mlp):
    """A model above a lowered limit, its temporary files in a folder of their own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(external_data, "MAX_MESSAGE_BYTES", 8000)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return mlp(SIZES)


@pytest.fixture
def place(tmp_path, monkeypatch, mlp, samples):
    """A workplace with samples, and a model whose weights lie in `weights.bin`."""
    path = tmp_path / "model.onnx"
    onnx.save(mlp(SIZES), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    np.savez(tmp_path / "calib.npz", x=samples(), labels=np.arange(40) % 4)
    return Workplace(tmp_path, monkeypatch)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def entries(path):
    proto = onnx.load(path, load_external_data=False)
    found = [{e.key: e.value for e in tensor.external_data} for tensor in proto.graph.initializer]
    return [entry for entry in found if entry]


# -- splitting -------------------------------------------------------------------------------------------------------


def test_a_model_above_the_limit_is_split_and_reads_back(large, tmp_path):
    size = save(large, tmp_path / "m.onnx")
    written = files(tmp_path)
    assert sorted(written) == ["m.onnx", "m.onnx.data"]
    assert size == sum(map(len, written.values()))
    assert load(tmp_path / "m.onnx").proto == large
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    places = entries(tmp_path / "m.onnx")
    assert {place["location"] for place in places} == {"m.onnx.data"}
    assert [int(place["offset"]) % external_data.ALIGNMENT for place in places] == [0] * len(places)
    assert len(places) == 2  # the smaller tensors stay


def test_a_model_below_the_limit_is_one_file(mlp, tmp_path):
    save(mlp(SIZES), tmp_path / "m.onnx")
    assert list(files(tmp_path)) == ["m.onnx"]
    assert entries(tmp_path / "m.onnx") == []


def test_external_data_can_be_asked_for(mlp, tmp_path):
    save(mlp(SIZES), str(tmp_path / "m.onnx"), external=True)
    assert sorted(files(tmp_path)) == ["m.onnx", "m.onnx.data"]


def test_with_external_data_the_model_is_never_one_message(mlp, tmp_path, monkeypatch):
    """A message with all values would take three times their size in memory."""
    monkeypatch.setitem(save.__globals__, "serialized", lambda _: pytest.fail("all values in one message"))
    save(mlp(SIZES), tmp_path / "m.onnx", external=True)
    assert (tmp_path / "m.onnx.data").stat().st_size > 8000


def test_nothing_is_put_into_a_data_file_if_all_tensors_are_small(mlp, tmp_path):
    save(mlp(), tmp_path / "m.onnx", external=True)
    assert list(files(tmp_path)) == ["m.onnx"]


def test_a_split_changes_nothing_else(large):
    large.metadata_props.add(key="a", value="b")
    large.graph.doc_string = "text"
    large.graph.initializer[0].doc_string = "more"
    before = large.SerializeToString(deterministic=True)
    bare, placed = external_data.split_tensors(large, "data")
    assert large.SerializeToString(deterministic=True) == before
    for (_, tensor), stored in zip(placed, [t for t in bare.graph.initializer if t.external_data], strict=True):
        stored.CopyFrom(tensor)
    assert bare == large


def test_what_is_too_large_without_its_initializers_is_refused():
    class TooLarge:
        def SerializeToString(self, **_):  # noqa: N802
            raise external_data.EncodeError("Failed to serialize proto")

    with pytest.raises(ModelError, match="even without its initializers"):
        external_data.skeleton_bytes(TooLarge())


def test_the_estimate_does_not_mind_what_is_no_tensor(large):
    assert external_data.estimated_tensor_bytes(large) == sum(
        len(tensor.raw_data) for tensor in large.graph.initializer
    )
    large.graph.initializer.add(name="unknown", data_type=99, dims=[1 << 40], raw_data=b"1234")
    large.graph.initializer.add(name="undefined", dims=[1 << 40], raw_data=b"1234")
    large.graph.initializer.add(name="text", data_type=onnx.TensorProto.STRING, dims=[1 << 40])
    assert external_data.estimated_tensor_bytes(large) < 20_000


def test_size_and_digest_of_a_model_without_a_file(large, monkeypatch):
    split = Model.of(large)
    changed = onnx.ModelProto()
    changed.CopyFrom(large)
    weight = numpy_helper.to_array(changed.graph.initializer[2]).copy()
    weight[-1, -1] += 1
    changed.graph.initializer[2].CopyFrom(numpy_helper.from_array(weight, changed.graph.initializer[2].name))
    assert Model.of(changed).digest != split.digest == Model.of(large).digest
    assert 0 <= split.size - large.ByteSize() < 500  # the references take some bytes
    monkeypatch.undo()
    assert Model.of(large).size == large.ByteSize()


# -- running and checking --------------------------------------------------------------------------------------------


def test_a_session_on_a_model_above_the_limit(large, tmp_path, samples, monkeypatch):
    feeds = {"x": samples()}
    session = open_session(large)
    assert list((tmp_path / "scratch").iterdir()) == []
    got = session.run(feeds)["y"], open_session(large, taps=["h0"]).run(feeds)["h0"]
    monkeypatch.undo()
    wanted = open_session(large).run(feeds)["y"], open_session(large, taps=["h0"]).run(feeds)["h0"]
    assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("spin", [False, True])
def test_weights_are_copied_only_where_time_is_taken(large, monkeypatch, spin):
    seen, real = [], onnxruntime.InferenceSession

    def opened(source, options, **settings):
        seen.append(options)
        return real(source, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    open_session(large, spin=spin)
    try:
        off = seen[0].get_session_config_entry("session.disable_prepacking")
    except RuntimeError:  # not set
        off = "0"
    assert off == ("0" if spin else "1")


def test_the_checker_answers_above_the_limit(large, tmp_path):
    assert checker_error(large) is None
    large.graph.node[0].op_type = "NoSuchOperator"
    assert "NoSuchOperator" in checker_error(large)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_model_that_is_refused_leaves_no_temporary_files(large, tmp_path):
    large.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="refuses"):
        open_session(large)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("use", [open_session, checker_error])
def test_no_room_for_temporary_files(large, tmp_path, monkeypatch, use):
    monkeypatch.setattr(external_data, "_write", no_space)
    with pytest.raises(DataError, match=r"^/.*temporary file cannot be written: No space"):
        use(large)
    assert list((tmp_path / "scratch").iterdir()) == []


# -- the commands ----------------------------------------------------------------------------------------------------


def test_prune_keeps_external_data_external(place, samples):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force")
    assert {entry["location"] for entry in entries(place.folder / OUT)} == {f"{OUT}.data"}
    session = onnxruntime.InferenceSession(place.folder / OUT)
    inline = onnxmi.prune(
        place.folder / "model.onnx", place.folder / "calib.npz", onnxmi.PruneOptions(keep=0.5, force=True)
    )
    assert np.array_equal(session.run(None, {"x": samples()})[0], open_session(inline.proto).run({"x": samples()})["y"])
    assert load(place.folder / OUT).proto == inline.proto


def test_the_same_seed_gives_the_same_bytes_for_all_files(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force")
    first = place.contents()
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force")
    assert place.contents() == first


def test_apply_gives_the_same_bytes_for_both_files(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "--no-repair")
    pruned = place.contents()
    plan = "model.pruned.plan.json"
    printed = json.loads(place.succeeds("apply", "model.onnx", plan, "--json", "-o", OUT))
    assert place.contents() == pruned
    assert printed["bytes"] == len(pruned[OUT]) + len(pruned[f"{OUT}.data"])


def test_the_cost_counts_external_data(place):
    shown = json.loads(
        place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "--json", "--no-repair")
    )
    stored = sum(len(data) for name, data in place.contents().items() if name in ("model.onnx", "weights.bin"))
    inspected = json.loads(place.succeeds("inspect", "model.onnx", "--json"))
    assert inspected["model"]["bytes"] == stored
    assert abs(shown["before"]["size"] - stored) < 800
    assert shown["data"] == f"{OUT}.data"


def test_a_model_above_the_limit_is_cut_from_end_to_end(place, monkeypatch):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "-o", "plain.onnx")
    monkeypatch.setattr(external_data, "MAX_MESSAGE_BYTES", 2000)
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "-o", "large.onnx")
    assert load(place.folder / "large.onnx").proto == load(place.folder / "plain.onnx").proto


@pytest.mark.parametrize("file", ["weights.bin", "taken.onnx"])
def test_the_data_of_the_source_is_not_written_over(place, file):
    if file == "taken.onnx":
        onnx.save(
            onnx.load(place.folder / "model.onnx"),
            place.folder / "model.onnx",
            save_as_external_data=True,
            location="taken.onnx.data",
        )
    assert "is also an input" in place.fails(2, "prune", "model.onnx", "calib.npz", "--keep", "0.5", "-o", file)


def test_the_place_of_the_data_is_looked_at_early(place):
    (place.folder / f"{OUT}.data").mkdir()
    assert "is a folder" in place.fails(3, "prune", "model.onnx", "calib.npz", "--keep", "0.5")


@pytest.mark.parametrize("name", [OUT, f"{OUT}.data"])
def test_two_files_are_not_written_through_links(place, monkeypatch, name):
    monkeypatch.setattr("onnxmi.pruning.pipeline.prune", None)  # refused before the work
    (place.folder / name).symlink_to("elsewhere")
    assert "is a link" in place.fails(3, "prune", "model.onnx", "calib.npz", "--keep", "0.5")


@pytest.mark.parametrize("name", ["m.onnx", "m.onnx.data"])
def test_a_model_found_too_large_is_not_written_through_links(large, tmp_path, name):
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(DataError, match="is a link"):
        save(large, tmp_path / "m.onnx")
    assert files(tmp_path) == {}


# -- all or nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3], ids=["data", "model", "plan"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_a_full_disk_leaves_what_was_there(place, monkeypatch, number, call, old):
    for name in (OUT, f"{OUT}.data", "model.pruned.plan.json") if old else ():
        (place.folder / name).write_text(f"old {name}")
    done, real = [], getattr(os, call)

    def fails(*args):
        done.append(args)
        return no_space() if len(done) == number else real(*args)

    monkeypatch.setattr(os, call, fails)
    assert "No space left" in place.fails(3, "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--fresh")
    assert len(done) >= number


def test_the_data_is_in_place_before_the_model(place, monkeypatch):
    order, real = [], os.replace

    def replace(source, target):
        order.append(os.path.basename(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "--fresh")
    assert order == [f"{OUT}.data", OUT, "model.pruned.plan.json"]


def test_without_hard_links_a_failure_still_removes_what_was_new(tmp_path, monkeypatch):
    real = os.replace
    monkeypatch.setattr(os, "link", no_space)
    monkeypatch.setattr(os, "replace", lambda a, b: no_space() if b.endswith("b") else real(a, b))
    (tmp_path / "b").write_text("old")
    with pytest.raises(DataError):
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert files(tmp_path) == {"b": b"old"}


# -- reading ---------------------------------------------------------------------------------------------------------


def constant_model(location):
    """A model whose external data belongs to the attribute of a node."""
    tensor = numpy_helper.from_array(np.ones(6, np.float32))
    external_data.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    wires = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 6]) for name in "xy"]
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "g", wires[:1], wires[1:]), ir_version=10)


def test_the_data_of_attributes_counts_as_well(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(constant_model("d").SerializeToString())
    (tmp_path / "d").write_bytes(np.ones(6, np.float32).tobytes())
    first = load(path)
    assert first.externals == (tmp_path / "d",)
    assert first.size == path.stat().st_size + 24
    (tmp_path / "d").write_bytes(np.zeros(6, np.float32).tobytes())
    assert load(path).digest != first.digest


def test_the_data_of_attributes_is_not_read_from_elsewhere(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "d").write_bytes(np.ones(6, np.float32).tobytes())
    (tmp_path / "inner" / "m.onnx").write_bytes(constant_model("../d").SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(tmp_path / "inner" / "m.onnx")
