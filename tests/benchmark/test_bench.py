"""`onnxmi bench`: what it measures, on which inputs, and how it says so."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import onnx
import pytest

from onnxmi.benchmark import compare as module
from onnxmi.benchmark.compare import BenchOptions, bench, unique_names
from onnxmi.benchmark.inputs import LENGTHS, bench_inputs
from onnxmi.data.calibration import check_calibration
from onnxmi.errors import ModelError, UsageError
from onnxmi.graph.macs import multiplies
from onnxmi.model import Model
from onnxmi.runtime.memory import peak_memory
from onnxmi.runtime.profile import sum_by_operator
from onnxmi.runtime.timing import Latency

QUICK = ("--threads", "1", "--no-memory", "--no-operators", "--seconds", "0.05")


# -- the figures ------------------------------------------------------------------------------------------------------


def test_figures_follow_from_the_times(place, monkeypatch):
    times = iter([(2.0, 0.5)] * 2)
    monkeypatch.setattr(module, "measure_latency", lambda *_, **__: [Latency(np.full(9, t)) for t in next(times)])
    rows = json.loads(place.succeeds("bench", "wide.onnx", "narrow.onnx", "--batch", "1,8", *QUICK, "--json"))["rows"]
    assert [(row["model"], row["batch"]) for row in rows] == [("wide", 1), ("narrow", 1), ("wide", 8), ("narrow", 8)]
    assert rows[3]["median_ms"] == rows[3]["p95_ms"] == 0.5
    assert rows[3]["samples_per_second"] == 8 / 0.5e-3
    assert rows[3]["speedup"] == rows[3]["speedup_low"] == rows[3]["speedup_high"] == 4.0
    assert rows[3]["macs"] == 6 * 7 + 7 * 5 + 5 * 4
    assert rows[3]["gmacs_per_second"] == pytest.approx(8 * rows[3]["macs"] / 0.5e-3 / 1e9)


def test_every_setting_is_measured_with_what_was_asked(place, monkeypatch):
    asked = []

    def measure(protos, feeds, **settings):
        asked.append((settings["threads"], settings["clock"], feeds[0]["x"].shape))
        return [Latency(np.ones(5)) for _ in protos]

    monkeypatch.setattr(module, "measure_latency", measure)
    place.succeeds("bench", "wide.onnx", "--threads", "1,2", "--batch", "3,5", "--no-memory", "--no-operators")
    assert asked == [(1, "wall", (3, 6)), (1, "wall", (5, 6)), (2, "wall", (3, 6)), (2, "wall", (5, 6))]


def test_sizes_count_external_data(place):
    proto = onnx.load("wide.onnx")
    onnx.save(proto, "split.onnx", save_as_external_data=True, size_threshold=0)
    found = json.loads(place.succeeds("bench", "wide.onnx", "split.onnx", *QUICK, "--json"))["models"]
    data = next(p for p in place.folder.iterdir() if p.suffix not in (".onnx", ".npz"))
    assert found[1]["size"] == (place.folder / "split.onnx").stat().st_size + data.stat().st_size
    assert found[0]["parameters"] == found[1]["parameters"] == 6 * 12 + 12 + 12 * 10 + 10 + 10 * 4 + 4


def test_memory_is_that_of_a_process_of_its_own(tmp_path, mlp):
    """One model stores 40 MB more than the other, and this process holds more than that already."""
    held = np.ones(30_000_000)  # 240 MB, all touched: they must not count
    onnx.save(mlp((6, 12, 4)), tmp_path / "small.onnx")
    onnx.save(mlp((6, 3200, 3200, 4)), tmp_path / "large.onnx")
    feeds = {"x": np.ones((1, 6), np.float32)}
    small, large = (peak_memory(tmp_path / f"{name}.onnx", feeds, 1) for name in ("small", "large"))
    assert 40e6 < large - small < 200e6
    assert small < 40e6 < held.nbytes, "neither the libraries nor what this process holds count"


def test_inputs_may_have_any_name(tmp_path, mlp):
    onnx.save(mlp(inputs=("file", "args")), tmp_path / "odd.onnx")
    feeds = {name: np.ones((1, 6), np.float32) for name in ("file", "args")}
    assert peak_memory(tmp_path / "odd.onnx", feeds, 1) > 0


def test_a_process_that_fails_is_one_line(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"the process that measures its memory failed: .*onnxruntime refuses"):
        peak_memory(tmp_path / "bad.onnx", {}, 1)


# -- operators --------------------------------------------------------------------------------------------------------


def event(node, operator, microseconds):
    return {"cat": "Node", "name": f"{node}_kernel_time", "dur": microseconds, "args": {"op_name": operator}}


def test_operators_are_summed_over_nodes_without_the_first_runs():
    runs = [[event("a", "MatMul", t), event("b", "MatMul", 2 * t), event("c", "Relu", 500)] for t in (9000, 1000, 3000)]
    events = [{"cat": "Session", "name": "model_run", "dur": 1}, *(e for run in runs for e in run)]
    first, second = sum_by_operator(events, warm_up=1)
    assert (first.operator, first.nodes, first.milliseconds) == ("MatMul", 2, pytest.approx(2 + 4))
    assert (second.operator, second.nodes, second.milliseconds) == ("Relu", 1, pytest.approx(0.5))
    assert (multiplies(first.operator), multiplies(second.operator)) == (True, False)


def test_a_loop_counts_with_what_its_body_does():
    run = [event("body", "MatMul", 1000), event("body", "MatMul", 1000), event("x", "Add", 10), event("y", "Mul", 10)]
    found = {entry.operator: entry for entry in sum_by_operator([*run, event("loop", "Loop", 2100)] * 4, warm_up=1)}
    assert "Loop" not in found
    assert found["MatMul"].milliseconds == pytest.approx(2.0)


def test_the_operators_of_a_real_model_are_found(place):
    found = json.loads(place.succeeds("bench", "wide.onnx", "--threads", "1", "--no-memory", "--json"))["operators"]
    assert sum(entry["nodes"] for entry in found["wide"]) == 3
    assert all("Gemm" in entry["operator"] and entry["heavy"] for entry in found["wide"])


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_made_up_inputs_have_the_sizes_asked_for(sequences):
    model = Model.of(sequences())
    assert bench_inputs(model, None, 3, 16)["x"].shape == (3, 16, 5)
    assert bench_inputs(model, None)["x"].shape == (1, LENGTHS[0], 5)


def test_made_up_inputs_try_lengths_until_one_works(sequences):
    proto = sequences()
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["x", "shape"], ["z"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 64 * 5]), "shape"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, None))
    assert bench_inputs(Model.of(proto), None)["x"].shape == (1, 64, 5)


def test_samples_are_repeated_and_cut(sequences):
    model = Model.of(sequences())
    samples = np.arange(2 * 9 * 5, dtype=np.float32).reshape(2, 9, 5)
    data = check_calibration({"x": samples}, model.graph)
    made = bench_inputs(model, data, 5, 4)["x"]
    assert np.array_equal(made, samples[[0, 1, 0, 1, 0], :4])


@pytest.mark.parametrize(
    ("batch", "length", "message"),
    [(7, None, "fixes a batch of 3"), (None, 4, "has no dynamic axis besides the batch")],
)
def test_what_a_fixed_model_cannot_do(mlp, batch, length, message):
    model = Model.of(mlp(batch=3))
    assert bench_inputs(model, None)["x"].shape == (3, 6)
    with pytest.raises(UsageError, match=message):
        bench_inputs(model, None, batch, length)


def test_samples_that_are_too_short(sequences):
    model = Model.of(sequences())
    data = check_calibration({"x": np.ones((2, 9, 5), np.float32)}, model.graph)
    with pytest.raises(UsageError, match="has a length of 9, shorter than 10"):
        bench_inputs(model, data, 1, 10)


def test_a_model_that_runs_on_nothing_made_up(mlp, monkeypatch):
    def refuse(*_):
        raise ModelError("no")

    monkeypatch.setattr("onnxmi.runtime.session.Session.run", refuse)
    with pytest.raises(ModelError, match="give it samples with --data"):
        bench_inputs(Model.of(_dynamic()), None)


def _dynamic() -> onnx.ModelProto:
    info = [onnx.helper.make_tensor_value_info(name, 1, ["n", "m"]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", info[:1], info[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)


# -- the command line -------------------------------------------------------------------------------------------------


def test_tables_fit_80_columns_and_name_what_they_show(place):
    shown = place.succeeds("bench", "wide.onnx", "narrow.onnx", "--threads", "1", "--seconds", "0.05", "--batch", "1,8")
    assert max(map(len, shown.splitlines())) <= 80
    for heading in ("file size", "peak memory", "1 thread, batch 1, ", "1 thread, batch 8, ", "speed-up", "FusedGemm"):
        assert heading in shown
    assert "note: the inputs are synthetic" in shown


def test_many_models_are_numbered_in_the_table_of_operators(place):
    names = ["wide.onnx", "narrow.onnx", "wide.onnx", "narrow.onnx"]
    shown = place.succeeds("bench", *names, "--threads", "1", "--seconds", "0.05", "--no-memory", "--batch", "3")
    assert max(map(len, shown.splitlines())) <= 80
    assert re.findall(r"^ ([1-9]) ", shown, re.MULTILINE) == ["1", "2", "3", "4"]
    assert re.search(r" operator +1 +2 +3 +4 *\n", shown)


def test_csv_has_a_row_for_each_model_and_setting(place):
    text = place.succeeds("bench", "wide.onnx", "narrow.onnx", "--data", "data.npz", "--batch", "1,8", *QUICK, "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["model"], row["batch"]) for row in rows] == [
        ("wide", "1"),
        ("narrow", "1"),
        ("wide", "8"),
        ("narrow", "8"),
    ]
    assert all(math.isfinite(float(row["median_ms"])) and int(row["file_bytes"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("code", "args", "message"),
    [
        (2, (), "Missing argument 'MODEL...'"),
        (2, ("wide.onnx", "--json", "--csv"), "both want standard output"),
        (2, ("wide.onnx", "--batch", "1,two"), "is not a list of whole numbers such as 1,8,32"),
        (2, ("wide.onnx", "--batch", "0"), "0 is below 1"),
        (2, ("wide.onnx", "--clock", "cpu"), "it needs --threads 1"),
        (2, ("wide.onnx", "--sequence", "8"), "has no dynamic axis besides the batch"),
        (3, ("none.onnx",), "none.onnx: cannot be read"),
        (3, ("wide.onnx", "--data", "none.npz"), "none.npz: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(place, code, args, message):
    assert message in place.fails(code, "bench", *args)


def test_models_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / "a" / "model.onnx", tmp_path / "b" / "model.onnx", tmp_path / "c.onnx"]
    assert unique_names(paths) == [str(paths[0]), str(paths[1]), "c"]


def test_the_library_needs_no_terminal(place):
    found = bench([place.folder / "wide.onnx"], BenchOptions(threads=(1,), seconds=0.05, memory=False, operators=False))
    assert len(found.rows) == 1
    assert found.rows[0].speedup == 1.0
