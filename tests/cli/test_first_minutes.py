"""What a newcomer meets: help, results that stay, a run rehearsed, a file of one's own, options in a file."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest

KEEP = ("prune", "model.onnx", "calib.npz", "--keep", "50%")


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("help",)])
def test_without_a_command_the_help_is_shown(place, args):
    text = place.succeeds(*args)
    assert text == place.succeeds("--help")
    assert "..." not in text.split("Commands:")[1].split("Examples:")[0]


def test_help_of_a_command(place):
    assert place.succeeds("help", "apply") == place.succeeds("apply", "--help")


# -- results that exist -----------------------------------------------------------------------------------------------


def test_a_result_is_not_replaced_unless_asked(place):
    place.succeeds(*KEEP)
    message = place.fails(2, *KEEP, overwrite=False)
    assert message == "model.pruned.onnx: exists; replace it with --overwrite, or write elsewhere with -o FILE"
    place.succeeds(*KEEP)
    assert place.run(*KEEP, "--force", overwrite=False).exit_code == 0
    (place.folder / "model.pruned.onnx").unlink()
    assert place.run(*KEEP, overwrite=False).exit_code == 0  # a plan alone is no result
    (place.folder / "model.pruned.onnx").unlink()
    place.succeeds("apply", "model.onnx", "model.pruned.plan.json")
    again = ("apply", "model.onnx", "model.pruned.plan.json")
    assert place.fails(2, *again, overwrite=False).startswith("model.pruned.onnx: exists")
    place.succeeds(*again)


def test_a_plan_beside_its_result_may_stay(place):
    place.succeeds(*KEEP)
    (place.folder / "model.pruned.onnx").unlink()
    place.succeeds("prune", "model.onnx", "calib.npz", "--plan", "model.pruned.plan.json")


# -- a run that is rehearsed ------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(place):
    before = place.contents()
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--dry-run", "--few-samples")
    assert place.contents() == before
    assert "the fastest model that loses at most 1% of the metric" in text
    assert re.search(r"About (\d+ s|\d+ min) in all", text)
    told = json.loads(place.succeeds(*KEEP, "--dry-run", "--json"))
    assert told["dry_run"] is True
    assert told["layers"] == ["fc0", "fc1"]
    assert [stage["name"] for stage in told["stages"]] == ["statistics", "trials"]
    assert sum(told["samples"].values()) == 40


# -- a file of one's own ----------------------------------------------------------------------------------------------


def test_the_result_is_reported_on_a_file_of_ones_own(place, samples):
    np.savez(place.folder / "eval.npz", x=samples(count=37, seed=5), labels=np.arange(37) % 4)
    text = " ".join(place.succeeds(*KEEP, "--eval", "eval.npz").split())
    assert re.search(r"evaluation \S+ .* on 37 samples.* of eval\.npz", text)
    assert "--baseline model.onnx --data eval.npz" in text
    told = json.loads(place.succeeds(*KEEP, "--eval", "eval.npz", "--json"))["evaluation"]
    assert (told["name"], told["samples"]) == ("eval.npz", 37)
    assert {output["name"] for output in told["outputs"]} == {"y"}


def test_a_wrong_evaluation_file_is_refused_before_the_work(place, monkeypatch):
    monkeypatch.setattr("onnxmi.pruning.pipeline._prune", lambda *_args: pytest.fail("the work began"))
    np.savez(place.folder / "eval.npz", other=np.zeros((3, 6), np.float32), second=np.zeros((3, 6), np.float32))
    assert "eval.npz" in place.fails(3, *KEEP, "--eval", "eval.npz")
    assert "none.npz" in place.fails(3, *KEEP, "--eval", "none.npz")


# -- what would help --------------------------------------------------------------------------------------------------


def test_an_embedding_table_that_is_left_whole_is_named(place):
    place_of_words(place)
    run = ("prune", "words.onnx", "words.npz", "--keep", "0.5", "--force")
    of_float = re.search(
        r"--cut embedding,hidden\n    the embedding table holds ([\d.]+) kB of ([\d.]+) kB", place.succeeds(*run)
    )
    quantized = place.succeeds(*run, "--quantize", "dynamic", "-o", "int8.onnx")
    of_8_bits = re.search(r"the embedding table holds about ([\d.]+) kB of ([\d.]+) kB", quantized)
    shares = [float(one[1]) / float(one[2]) for one in (of_float, of_8_bits)]
    assert shares[1] == pytest.approx(shares[0], rel=0.05)  # of the 8-bit file, as of the float one
    message = place.fails(1, "prune", "words.onnx", "words.npz", "--max-size", "1kB", "-o", "small.onnx")
    assert "out of reach: --max-size 1kB: the nearest is" in message
    assert "the embedding table holds" in message
    assert "--cut embedding,hidden cuts it" in message


def place_of_words(place):
    """A model whose file is mostly a table of 211 words."""
    rng = np.random.default_rng(3)
    stored = {"table": (211, 13), "w0": (13, 17), "w1": (17, 3)}
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["words"], name="look-up"),
        onnx.helper.make_node("ReduceMean", ["words"], ["mean"], axes=[1], keepdims=0),
        onnx.helper.make_node("Relu", ["mean"], ["positive"]),
        onnx.helper.make_node("MatMul", ["positive", "w0"], ["h"], name="up"),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("MatMul", ["r", "w1"], ["y"], name="down"),
    ]
    tensors = [
        onnx.numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in stored.items()
    ]
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", 5])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])
    graph = onnx.helper.make_graph(nodes, "words", [ids], [out], tensors)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        place.folder / "words.onnx",
    )
    np.savez(place.folder / "words.npz", ids=rng.integers(0, 211, (67, 5)))


# -- libraries --------------------------------------------------------------------------------------------------------


def test_libraries_say_nothing_where_there_is_no_home(place):
    done = place.process("inspect", "model.onnx", HOME="/nonexistent", XDG_CACHE_HOME="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")


# -- pages of what is measured ----------------------------------------------------------------------------------------


def test_checks_and_benchmarks_have_pages(place):
    timed = ("bench", "model.onnx", "--seconds", "0.1", "--threads", "1", "--no-memory", "--no-operators")
    place.succeeds(*timed, "--report", "bench.html")
    assert "a run</h1>" in (place.folder / "bench.html").read_text()
    result = place.run("check", "model.onnx", "--max-size", "1kB", "--report", "check.html")
    assert result.exit_code == 1
    page = (place.folder / "check.html").read_text()
    assert "<h1>1 of 2 checks failed</h1>" in page
    assert "asked: at most 1.0 kB" in page
    assert "is also an input" in place.fails(2, *timed, "--report", "model.onnx")
