"""Everything a user can get wrong: one line on standard error, the documented exit code, and nothing written."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxmi.errors import CheckError
from onnxmi.pruning import final_report, pipeline

RUN = ("prune", "model.onnx", "calib.npz")
PRUNE = (*RUN, "--keep", "0.5")


# -- usage: exit code 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("shrink",), "no such command 'shrink' (`onnxmi --help` explains)"),
        (("prun",), "no such command 'prun'; did you mean 'prune'?"),
        (("my model.onnx", "calib.npz"), "is not a command; did you mean `onnxmi inspect 'my model.onnx'`, or prune?"),
        (("--keep", "0.5"), "No such option"),
        (("prune",), "Missing argument 'MODEL'"),
        (("prune", "model.onnx"), "Missing argument 'CALIB'"),
        (("inspect",), "Missing argument 'MODEL'"),
        (("apply", "model.onnx"), "Missing argument 'PLAN'"),
        (("prune", "model.onnx", "calib.npz", "--keep", "0.5", "more"), "unexpected extra argument"),
        ((*PRUNE, "--score", "best"), "'best' is not one of"),
        ((*PRUNE, "--estimator", "exact"), "'exact' is not one of"),
        ((*PRUNE, "--keep", "half"), "'half' is not a share such as 50%"),
        ((*PRUNE, "--seed", "-1"), "-1 is not in the range"),
        ((*PRUNE, "--batch-size", "0"), "0 is not in the range"),
        ((*PRUNE, "--threads", "two"), "'two' is not a valid integer"),
        ((*PRUNE, "--skip"), "requires an argument"),
        ((*PRUNE, "--nonsense"), "No such option"),
    ],
)
def test_wrong_arguments(place, args, message):
    assert message in place.fails(2, *args, overwrite=False)


@pytest.mark.parametrize("keep", ["0", "-0.5", "1.5", "101%", "1e999"])
def test_keep_out_of_range(place, keep):
    assert "expected a share above 0 and at most 1" in place.fails(2, *PRUNE, "--keep", keep)


def test_an_estimator_that_the_score_does_not_have(place):
    assert "no score 'joint' with estimator 'binned'" in place.fails(2, *PRUNE, "--estimator", "binned")


@pytest.mark.parametrize("option", ["--skip", "--only"])
def test_a_pattern_that_matches_nothing(place, option):
    assert "no layer matches 'conv*'" in place.fails(2, *PRUNE, option, "fc*", option, "conv*")


@pytest.mark.parametrize(
    "option",
    [("--skip", "fc*"), ("--only", "fc*"), ("--keep", "0.5"), ("--score", "random"), ("--cut", "hidden")],
    ids=lambda option: option[0],
)
def test_what_does_not_go_with_a_plan(place, option):
    place.succeeds(*PRUNE)
    assert f"{option[0]} cannot be combined with --plan" in place.fails(
        2, *RUN, "--plan", "model.pruned.plan.json", *option
    )


def test_a_kind_of_layer_that_does_not_exist(place):
    assert "no kind of layer 'neurons'" in place.fails(2, *PRUNE, "--cut", "hidden,neurons")


@pytest.mark.parametrize("output", [".", "/", ".."])
def test_an_output_without_a_name(place, output):
    assert f"{output}: is a folder" in place.fails(3, *PRUNE, "-o", output)


def test_statistics_have_two_spellings(place):
    place.succeeds("capture", "model.onnx", "calib.npz", "-o", "s.npz")
    for option in ("--statistics", "--stats"):
        place.succeeds(*PRUNE, option, "s.npz")


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "empty"),
        ("prune", "model.onnx", "empty"),
        ("apply", "model.onnx", "empty"),
        ("report", "empty", "-o", "page.html"),
        ("merge", "empty", "-o", "sum.npz"),
    ],
    ids=lambda command: command[0],
)
def test_an_empty_file(place, command):
    (place.folder / "empty").touch()
    assert "empty: is empty" in place.fails(3, *command)


@pytest.mark.parametrize("output", ["model.onnx", "calib.npz", "./model.onnx"])
def test_output_equal_to_an_input(place, output):
    assert "is also an input" in place.fails(2, *PRUNE, "-o", output)


def test_output_equal_to_an_input_by_a_link(place):
    (place.folder / "link.onnx").symlink_to("model.onnx")
    assert "is also an input" in place.fails(2, *PRUNE, "-o", "link.onnx")


def test_a_plan_that_would_overwrite_an_input(place):
    (place.folder / "model.onnx").rename(place.folder / "model.plan.json")
    assert "is also an input" in place.fails(
        2, "prune", "model.plan.json", "calib.npz", "--keep", "0.5", "-o", "model.onnx"
    )


# -- nothing to do, or a check failed: exit code 1 --------------------------------------------------------------------


def test_keep_all(place):
    assert "a share of 1 keeps every unit" in place.fails(1, *PRUNE, "--keep", "1")


def test_no_layer_left(place):
    said = place.fails(1, *PRUNE, "--skip", "*")
    assert "none of the layers was chosen" in said
    assert "--cut" not in said


def test_no_layer_of_the_wanted_kind(place):
    said = place.fails(1, *PRUNE, "--cut", "heads")
    assert "none of the layers was chosen" in said
    assert "--cut hidden cuts them, too" in said


def test_a_model_without_layers(place):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), place.folder / "relu.onnx"
    )
    assert "has no layer that can be cut" in place.fails(1, "prune", "relu.onnx", "calib.npz", "--keep", "0.5")


def test_a_model_whose_only_layers_are_at_the_border(place, mlp):
    onnx.save(mlp(sizes=(6, 4)), place.folder / "one.onnx")
    message = place.fails(1, "prune", "one.onnx", "calib.npz", "--keep", "0.5")
    assert "it is an axis of the graph input x" in message


def test_a_plan_that_keeps_all(place):
    place.succeeds(*PRUNE)
    edit(place, lambda plan: [layer.update(kept=list(range(layer["size"]))) for layer in plan["layers"]])
    assert "keeps every unit" in place.fails(1, *RUN, "--plan", "model.pruned.plan.json", "-o", "again.onnx")


def test_a_check_that_fails(place, monkeypatch):
    def refuse(_checks):
        raise CheckError("the result was not written because a check failed: it is wrong")

    monkeypatch.setattr(final_report, "require_passed", refuse)
    assert "it is wrong" in place.fails(1, *PRUNE)


# -- files: exit code 3 -----------------------------------------------------------------------------------------------

BAD_FILES = {
    "missing": None,
    "folder": "",
    "empty": b"",
    "text": b"hello\nworld\n",
    "random": np.random.default_rng(1).bytes(3000),
}


def put(place, name, content):
    path = place.folder / name
    if content == "":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", ["prune", "inspect", "apply"])
def test_bad_models(place, kind, command):
    put(place, "bad", BAD_FILES[kind])
    rest = {"prune": ["calib.npz"], "inspect": [], "apply": ["plan.json"]}[command]
    assert place.fails(3, command, "bad", *rest).startswith("bad: ")


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_calibration_files(place, kind):
    put(place, "bad", BAD_FILES[kind])
    assert place.fails(3, "prune", "model.onnx", "bad").startswith("bad: ")


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", ["prune", "apply"])
def test_bad_plans(place, kind, command):
    put(place, "bad", BAD_FILES[kind])
    args = (
        ["prune", "model.onnx", "calib.npz", "--plan", "bad"] if command == "prune" else ["apply", "model.onnx", "bad"]
    )
    assert place.fails(3, *args).startswith("bad: ")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files(place, share):
    for name in ("model.onnx", "calib.npz"):
        data = (place.folder / name).read_bytes()
        (place.folder / f"cut.{name}").write_bytes(data[: int(len(data) * share)])
    place.fails(3, "prune", "cut.model.onnx", "calib.npz", "--keep", "0.5")
    place.fails(3, "prune", "model.onnx", "cut.calib.npz", "--keep", "0.5")


@pytest.mark.parametrize("name", [".", "..", "/", "", "x" * 3000])
def test_odd_paths(place, name):
    place.fails(3, "prune", name, "calib.npz", "--keep", "0.5")
    if name not in (".", ""):  # this folder has samples
        place.fails(3, "prune", "model.onnx", name)
    place.fails(3, "inspect", name)


def test_a_model_that_onnxruntime_refuses(place, mlp):
    proto = mlp()
    proto.graph.node[0].op_type = "Nonsense"
    onnx.save(proto, place.folder / "odd.onnx")
    assert "onnxruntime refuses the model" in place.fails(3, "prune", "odd.onnx", "calib.npz", "--keep", "0.5")


CALIBRATION = {
    "missing array": ({"z": np.ones((4, 6))}, "no array named 'x'"),
    "extra array": ({"x": np.ones((4, 6)), "z": np.ones(4)}, "'z' is not an input"),
    "dtype": ({"x": np.ones((4, 6), dtype=np.int64)}, "has dtype int64"),
    "rank": ({"x": np.ones((4, 6, 1))}, "expects 2 axes"),
    "fixed size": ({"x": np.ones((4, 7))}, "expects (batch, 6)"),
    "nan": ({"x": np.full((4, 6), np.nan)}, "NaN or infinite"),
    "inf": ({"x": np.full((4, 6), np.inf)}, "NaN or infinite"),
    "no samples": ({"x": np.ones((0, 6))}, "has no samples"),
    "objects": ({"x": np.array([{}], dtype=object)}, "Python objects"),
    "labels": ({"x": np.ones((4, 6)), "labels": np.ones(5, dtype=int)}, "one class for each of 4 samples"),
}


@pytest.mark.parametrize("kind", CALIBRATION)
def test_calibration_that_does_not_fit(place, kind):
    arrays, message = CALIBRATION[kind]
    np.savez(place.folder / "bad.npz", **arrays)
    assert message in place.fails(3, "prune", "model.onnx", "bad.npz")


def test_a_single_array(place):
    with (place.folder / "bad.npz").open("wb") as file:
        np.save(file, np.ones((4, 6)))
    assert "numpy.savez" in place.fails(3, "prune", "model.onnx", "bad.npz")


def test_sample_counts_that_disagree(place, mlp):
    onnx.save(mlp(inputs=("x", "z")), place.folder / "two.onnx")
    np.savez(place.folder / "bad.npz", x=np.ones((4, 6)), z=np.ones((5, 6)))
    assert "sample counts disagree: 'x' has 4, 'z' has 5" in place.fails(3, "prune", "two.onnx", "bad.npz")


# -- plans ------------------------------------------------------------------------------------------------------------


def edit(place, change, name="model.pruned.plan.json"):
    path = place.folder / name
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))


def set_kept(kept):
    return lambda plan: plan["layers"][0].update(kept=kept)


EDITS = {
    "out of range": (set_kept([0, 99]), "keeps units outside 0..11"),
    "negative": (set_kept([-1, 2]), "keeps units outside 0..11"),
    "duplicated": (set_kept([2, 2, 3]), "twice or out of order"),
    "unsorted": (set_kept([3, 2]), "twice or out of order"),
    "empty": (set_kept([]), "keeps nothing"),
    "wrong parts": (set_kept([[0, 1], [2, 3]]), "lists 2 parts"),
    "no indices": (set_kept(["a"]), "not a list of indices"),
    "unknown layer": (lambda plan: plan["layers"][0].update(name="fc7"), "does not have or cannot cut"),
    "layer twice": (lambda plan: plan["layers"].append(plan["layers"][0]), "names a layer twice"),
    "wrong size": (lambda plan: plan["layers"][0].update(size=5), "has 5 units, the model's has 12"),
    "other model": (lambda plan: plan["model"].update(sha256="0" * 64), "is for a model with digest 000000000000"),
    "other schema": (lambda plan: plan.update(schema=99), "has schema 99"),
    "no layers": (lambda plan: plan.pop("layers"), "is not a plan"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_plans_that_do_not_fit(place, kind):
    place.succeeds(*PRUNE)
    change, message = EDITS[kind]
    edit(place, change)
    assert message in place.fails(3, "apply", "model.onnx", "model.pruned.plan.json", "-o", "new.onnx")
    assert message in place.fails(3, *RUN, "--plan", "model.pruned.plan.json", "-o", "new.onnx")


def test_a_wrong_plan_is_refused_before_the_samples_are_run(place, monkeypatch):
    place.succeeds(*PRUNE)
    edit(place, set_kept([0, 99]))
    monkeypatch.setattr("onnxmi.pruning.collect.capture", lambda *_: pytest.fail("samples were run"))
    place.fails(3, *RUN, "--plan", "model.pruned.plan.json", "-o", "new.onnx")


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_an_unexpected_failure_is_reported_as_a_bug(place, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("division by zero\nover two lines")

    monkeypatch.setattr(pipeline, "start_session", broken)
    message = place.fails(4, *PRUNE)
    assert message == (
        "a bug in onnxmi: ZeroDivisionError: division by zero over two lines; "
        "run again with --debug FILE to make a bundle that you can send"
    )


def test_the_traceback_of_a_bug_is_there_on_request(place, monkeypatch):
    monkeypatch.setattr(pipeline, "start_session", lambda *_, **__: 1 / 0)
    monkeypatch.setenv("ONNXMI_TRACEBACK", "1")
    assert isinstance(place.run(*PRUNE).exception, ZeroDivisionError)


def test_out_of_memory(place, monkeypatch):
    def hungry(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(pipeline, "start_session", hungry)
    assert place.fails(3, *PRUNE) == "not enough memory"


@pytest.mark.parametrize("bad", ["model", "calib", "keep"])
def test_real_processes_fail_the_same_way(place, bad):
    args = {
        "model": ("prune", "calib.npz", "calib.npz", "--keep", "0.5"),
        "calib": ("prune", "model.onnx", "model.onnx"),
        "keep": (*PRUNE, "--keep", "2"),
    }[bad]
    before = place.contents()
    done = place.process(*args)
    assert done.returncode == (2 if bad == "keep" else 3)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert place.contents() == before
