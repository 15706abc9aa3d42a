"""`onnxmi check`: what passes, what fails, and what cannot be checked."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxmi.errors import ModelError, UsageError
from onnxmi.gate import check as module
from onnxmi.gate.check import CheckOptions, check
from onnxmi.gate.interface import interface_changes
from onnxmi.model import Model, load
from onnxmi.runtime import stopwatch
from onnxmi.runtime.timing import Latency
from tests.support.build import Build

AGAINST = ("new.onnx", "--baseline", "old.onnx")
SIZE = ("--max-size", "1MB")
STEADY, NOISY = np.full(100, 10.0), np.linspace(1, 40, 100)


def found(place, *args):
    """The verdicts by name, whether the command passed or failed."""
    result = place.run(*args, "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == (0 if data["passed"] else 1)
    assert data["passed"] == all(entry["passed"] for entry in data["checks"])
    return {entry["name"]: entry for entry in data["checks"]}


# -- limits -----------------------------------------------------------------------------------------------------------


def test_sizes(place):
    old, new = (load(place.folder / f"{name}.onnx").size for name in ("old", "new"))
    verdicts = found(place, *AGAINST, "--max-size", new, "--max-size-ratio", new / old)
    assert (verdicts["max-size"]["value"], verdicts["max-size-ratio"]["value"]) == (new, new / old)
    assert all(entry["passed"] for entry in verdicts.values())
    verdicts = found(place, *AGAINST, "--max-size", new - 1, "--max-size-ratio", new / old - 1e-6)
    assert not verdicts["max-size"]["passed"] | verdicts["max-size-ratio"]["passed"]


def test_macs(place):
    macs = 6 * 7 + 7 * 5 + 5 * 4
    assert found(place, "new.onnx", "--max-macs", macs)["max-macs"]["passed"]
    assert not found(place, "new.onnx", "--max-macs", macs - 1)["max-macs"]["passed"]


def test_memory(place, monkeypatch):
    monkeypatch.setattr(module, "peak_memory", lambda *_: 5_000_000)
    assert found(place, "new.onnx", "--max-memory", "5MB")["max-memory"]["passed"]
    assert not found(place, "new.onnx", "--max-memory", "4.9MB")["max-memory"]["passed"]


@pytest.mark.parametrize(
    ("limit", "bound", "passed"),
    [
        ("max-latency", "5ms", True),
        ("max-latency", "4.9ms", False),
        ("max-p95", "5ms", True),
        ("max-p95", "4.9ms", False),
        ("min-speedup", "2", True),
        ("min-speedup", "2.01", False),
    ],
)
def test_times(place, limit, bound, passed):
    place.takes(STEADY, STEADY / 2)
    assert found(place, *AGAINST, f"--{limit}", bound)[limit]["passed"] is passed


def test_noise_alone_fails_nothing_and_strictly_passes_nothing(place):
    place.takes(STEADY, NOISY)  # median 20.5, most of them far from it
    asked = (*AGAINST, "--max-latency", "19ms")
    assert found(place, *asked)["max-latency"]["passed"]
    assert "beyond, but within the noise" in place.passes(*asked)
    assert not found(place, *asked, "--strict")["max-latency"]["passed"]
    assert not found(place, *AGAINST, "--max-latency", "22ms", "--strict")["max-latency"]["passed"]


def test_both_models_are_timed_together_on_the_same_inputs(place, monkeypatch):
    asked = []

    def measure(*args, **settings):
        asked.append((args, settings))
        return Latency(STEADY), Latency(STEADY)

    monkeypatch.setattr(stopwatch, "measure_latency", measure)
    found(
        place, *AGAINST, "--min-speedup", "1", "--max-latency", "20", "--threads", "1", "--batch", "3", "--clock", "cpu"
    )
    (((protos, feeds), settings),) = asked
    assert [proto.graph.initializer[0].dims[1] for proto in protos] == [12, 7], "the baseline comes first"
    assert feeds["x"].shape == (3, 6)
    assert (settings["threads"], settings["clock"], settings["precision"]) == (1, "cpu", 0.01)


def test_the_drop_of_a_known_model(place):
    """A model whose output is its input, but for a part that is left out; a second one gets one class of four wrong."""
    inputs = 2 * np.eye(5, dtype=np.float32)[np.arange(40) % 4]
    for name, last in (("a", (0, 0, 0, 1)), ("b", (0.6, 0, 0, 0.5))):  # what stands for the last class
        b, weights = Build(), np.eye(5, 4, dtype=np.float32)
        weights[3] = last
        onnx.save(b.proto(b.op("MatMul", b.input("n", 5), b.const(weights))), f"{name}.onnx")
    np.savez("d.npz", x=inputs, labels=np.arange(40) % 4)
    entry = found(place, "b.onnx", "--baseline", "a.onnx", "--data", "d.npz", "--max-drop", "0.25")["max-drop"]
    assert (entry["value"], entry["passed"]) == (0.25, True)
    assert entry["detail"] == (
        "undecided: 40 samples cannot tell 25 points; "
        "accuracy 1.0000 -> 0.7500, 25.0 points lost [14.0, 40.2] on 40 samples (10 answers lost, 0 gained)"
    )
    assert entry["interval"] == pytest.approx([0.140, 0.402], abs=1e-3)


@pytest.mark.parametrize(
    ("data", "metric", "shown"),
    [
        ("data.npz", None, "accuracy"),
        ("unlabelled.npz", None, "certain-agreement"),
        ("unlabelled.npz", "agreement", "agreement"),
        ("unlabelled.npz", "kl", "kl"),
        ("unlabelled.npz", "cosine", "cosine"),
        ("data.npz", "top2", "top2"),
        ("data.npz", "mse", "mse"),
        ("data.npz", "F1", "f1"),
    ],
)
def test_metrics(place, data, metric, shown):
    chosen = () if metric is None else ("--metric", metric)
    entry = found(place, *AGAINST, "--data", data, "--max-drop", "5", *chosen)["max-drop"]
    assert f"{shown} " in entry["detail"]


def test_a_metric_of_ones_own(place):
    (place.folder / "scores.py").write_text("def mean(outputs, labels):\n    return outputs.mean()\n")
    entry = found(place, *AGAINST, "--data", "data.npz", "--max-drop", "5", "--metric", "scores:mean")["max-drop"]
    assert entry["interval"] is None
    assert "scores:mean " in entry["detail"]


# -- what a drop is ---------------------------------------------------------------------------------------------------


def _rare() -> onnx.ModelProto:
    """A softmax of two classes, one of which no sample gets, behind two layers of 61 units."""
    generator, b = np.random.default_rng(0), Build()
    made = b.input("n", 13)
    for fan_in, fan_out, bias in ((13, 61, np.zeros(61)), (61, 61, np.zeros(61)), (61, 2, np.array([6, -6]))):
        weight = generator.normal(size=(fan_in, fan_out)) * np.sqrt(2 / fan_in)
        made = b.op("Gemm", made, b.const(weight.astype(np.float32)), b.const(bias.astype(np.float32)))
        made = b.op("Relu", made) if fan_out > 2 else b.op("Softmax", made, axis=-1)
    return b.proto(made)


def _ruined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same with other numbers in the weights that make the last answer."""
    ruined = onnx.ModelProto()
    ruined.CopyFrom(proto)
    last = next(tensor for tensor in ruined.graph.initializer if list(tensor.dims) == [61, 2])
    values = np.random.default_rng(5).permutation(numpy_helper.to_array(last))
    last.CopyFrom(numpy_helper.from_array(values, last.name))
    return ruined


@pytest.fixture
def rare(place):
    proto = _rare()
    onnx.save(proto, "rare.onnx")
    onnx.save(_ruined(proto), "ruined.onnx")
    np.savez("rare.npz", **{proto.graph.input[0].name: np.random.default_rng(1).normal(size=(251, 13)).astype("f")})
    return place


RUINED = ("ruined.onnx", "--baseline", "rare.onnx", "--data", "rare.npz")


@pytest.mark.parametrize("bound", ["0.01", "5"])
def test_a_classifier_of_a_rare_class_that_is_ruined_fails(rare, bound):
    """Agreement of the top class is whole, as it is of a constant. Scores are noise: no limit lets that pass."""
    entry = found(rare, *RUINED, "--max-drop", bound)["max-drop"]
    assert not entry["passed"]
    assert entry["value"] > 0.3
    assert "is lost: its damage is" in entry["detail"]
    assert "rank-correlation 1.0000 -> " in entry["detail"]
    assert found(rare, *RUINED, "--max-drop", bound, "--metric", "agreement")["max-drop"]["passed"] is False


def test_the_classifier_itself_passes(rare):
    asked = ("rare.onnx", "--baseline", "rare.onnx", "--data", "rare.npz", "--max-drop", "0.01")
    assert found(rare, *asked, "--strict")["max-drop"]["passed"]


def _heads(noise: float) -> onnx.ModelProto:
    """Two outputs: the first is the input itself, the second a sum with an error that is known."""
    b = Build()
    x = b.input("n", 7)
    weight = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    error = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32) * noise
    return b.proto(b.op("MatMul", x, b.const(np.eye(7, dtype=np.float32))), b.op("MatMul", x, b.const(weight + error)))


@pytest.fixture
def heads(place):
    for name, noise in (("old", 0.0), ("good", 0.001), ("bad", 3.0)):
        onnx.save(_heads(noise), f"{name}.onnx")
    np.savez("x.npz", **{_heads(0).graph.input[0].name: np.random.default_rng(2).normal(size=(211, 7)).astype("f")})
    return place


def _heads_asked(name, *args):
    return f"{name}.onnx", "--baseline", "old.onnx", "--data", "x.npz", "--max-drop", "0.01", *args


def test_every_output_counts(heads):
    second = _heads(0).graph.output[1].name
    verdicts = found(heads, *_heads_asked("bad"))
    assert f"output {second} is lost" in verdicts["max-drop"]["detail"]
    assert found(heads, *_heads_asked("good"))["max-drop"]["passed"]
    assert found(heads, *_heads_asked("bad", "--ignore-output", second))["max-drop"]["passed"]


def test_what_an_output_means_may_be_said(heads):
    second = _heads(0).graph.output[1].name
    for kind, metric in (("embedding", "centered-cosine"), ("values", "worst-r2"), ("signal", "explained-variance")):
        data = json.loads(heads.run(*_heads_asked("good", "--output", f"{second}:{kind}", "--json")).stdout)
        (output,) = (entry for entry in data["outputs"] if entry["name"] == second)
        assert (output["kind"], output["metrics"][0]["metric"]) == (kind, metric)


def test_models_with_other_inner_tensors_are_compared_at_their_outputs(rare):
    """Before the Softmax there is nothing in a model that stores its answers in another way."""
    proto = _rare()
    softmax = proto.graph.node[-1]
    softmax.op_type = "Exp"
    del softmax.attribute[:]
    made = softmax.output[0]
    softmax.output[0] = "exp"
    proto.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["exp", "last"], ["sum"], keepdims=1),
            helper.make_node("Div", ["exp", "sum"], [made]),
        ]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1]), "last"))
    onnx.save(proto, "spelled.onnx")
    asked = ("spelled.onnx", "--baseline", "rare.onnx", "--data", "rare.npz", "--max-drop", "0.01")
    entry = found(rare, *asked)["max-drop"]
    assert entry["passed"]
    assert "rank-correlation" in entry["detail"]


def test_what_the_samples_cannot_decide_is_a_warning_and_strictly_a_failure(place):
    asked = (*AGAINST, "--data", "unlabelled.npz", "--max-drop", "0.01")
    entry = found(place, *asked)["max-drop"]
    assert (entry["passed"], entry["undecided"]) == (True, True)
    assert "undecided: 40 samples cannot tell 1 point; they resolve about 7.2" in entry["detail"]
    assert " warn max-drop " in f" {place.passes(*asked)}".replace("  ", " ").replace("  ", " ")
    entry = found(place, *asked, "--strict")["max-drop"]
    assert (entry["passed"], entry["undecided"]) == (False, False)


def test_metrics_of_ones_own_are_taken_of_the_first_output_that_is_no_state(heads):
    entry = found(heads, *_heads_asked("good", "--metric", "mse"))["max-drop"]
    assert entry["passed"]
    assert "mse 0.0000 -> 0.0000" in entry["detail"]


# -- what is asked of every model -------------------------------------------------------------------------------------


def test_another_interface_fails_and_what_needs_a_run_is_not_measured(place):
    verdicts = found(place, "other.onnx", "--baseline", "old.onnx", "--max-size", "1MB", "--max-latency", "1s")
    assert not verdicts["interface"]["passed"]
    assert verdicts["interface"]["detail"] == "output 'y': float32 (batch, 4) became float32 (batch, 3)"
    assert verdicts["max-size"]["passed"]
    assert (verdicts["max-latency"]["passed"], verdicts["max-latency"]["measured"]) == (False, "not measured")


def _interface(inputs, outputs):
    infos = [[helper.make_tensor_value_info(*info) for info in side] for side in (inputs, outputs)]
    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name, *_ in outputs]
    return Model.of(helper.make_model(helper.make_graph(nodes, "g", *infos)))


X, Y = ("x", 1, ["batch", 3]), ("y", 1, ["batch", 3])


@pytest.mark.parametrize(
    ("inputs", "outputs", "changes"),
    [
        ([X], [Y], []),
        ([("x", 1, ["n", 3])], [("y", 1, [None, 3])], []),
        ([("x", 1, [1, 3])], [Y], ["input 'x': float32 (batch, 3) became float32 (1, 3)"]),
        ([("x", 10, ["batch", 3])], [Y], ["input 'x': float32 (batch, 3) became float16 (batch, 3)"]),
        ([("z", 1, ["batch", 3])], [Y], ["input 'x' is gone", "input 'z' is new"]),
        ([X], [Y, ("w", 1, None)], ["outputs y became y, w"]),
        ([X], [("w", 1, ["batch", 3])], ["outputs y became w"]),
        ([X], [("y", 1, None)], ["output 'y': float32 (batch, 3) became float32 of unknown shape"]),
    ],
)
def test_interfaces(inputs, outputs, changes):
    assert interface_changes(_interface([X], [Y]), _interface(inputs, outputs)) == changes


def test_a_model_that_does_not_run_fails(place, mlp):
    broken = mlp()
    broken.graph.node[0].op_type = "Nonsense"
    onnx.save(broken, "broken.onnx")
    verdicts = found(place, "broken.onnx", "--max-latency", "1s", "--max-size", "1MB")
    assert not verdicts["runs"]["passed"]
    assert "onnxruntime refuses" in verdicts["runs"]["detail"]
    assert verdicts["max-latency"]["measured"] == "not measured"


def test_outputs_that_are_not_finite_fail(place):
    b = Build()
    made = b.op("Sqrt", b.input("n", 4))
    onnx.save(b.proto(made), "broken.onnx")
    np.savez("negative.npz", x=-np.ones((3, 4), np.float32))
    assert found(place, "broken.onnx", *SIZE, "--data", "negative.npz")["runs"]["detail"] == f"not finite: {made}"


def test_a_baseline_that_does_not_run_is_an_error(place, mlp):
    broken = mlp()
    broken.graph.node[0].op_type = "Nonsense"
    onnx.save(broken, "broken.onnx")
    assert "onnxruntime refuses" in place.refuses(3, "new.onnx", "--baseline", "broken.onnx", *SIZE)


# -- what cannot be checked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "args", "message"),
    [
        (2, (), "Missing argument 'MODEL'"),
        (2, ("new.onnx",), "no limit is given: expected at least one of --max-size or --max-size-ratio"),
        (2, ("new.onnx", "--baseline", "old.onnx"), "no limit is given"),
        (2, ("new.onnx", "--min-speedup", "1.5"), "--min-speedup needs --baseline"),
        (2, ("new.onnx", "--max-drop", "0.01"), "--max-drop needs --baseline and --data"),
        (2, (*AGAINST, "--max-drop", "0.01"), "--max-drop needs --data"),
        (2, ("new.onnx", "--max-size", "8ms"), "'8ms' is not a size such as 10MB"),
        (2, ("new.onnx", *SIZE, "--metric", "f1"), "--metric is for --max-drop"),
        (2, ("new.onnx", *SIZE, "--clock", "cpu"), "cpu clock with --threads 1"),
        (
            2,
            (*AGAINST, "--data", "data.npz", "--max-drop", "1", "--metric", "f2"),
            "no metric 'f2'; there are accuracy",
        ),
        (2, (*AGAINST, "--data", "unlabelled.npz", "--max-drop", "1", "--metric", "f1"), "needs labels"),
        (2, (*AGAINST, "--data", "unlabelled.npz", "--max-drop", "1", "--metric", "iou"), "fits none of the outputs"),
        (2, (*AGAINST, "--data", "data.npz", "--max-drop", "1", "--output", "y:words"), "is not of the form NAME:KIND"),
        (2, (*AGAINST, "--data", "data.npz", "--max-drop", "1", "--ignore-output", "z"), "no output 'z' to ignore"),
        (2, ("new.onnx", *SIZE, "--junit", "new.onnx"), "is also an input"),
        (3, ("none.onnx", *SIZE), "none.onnx: cannot be read"),
        (3, ("new.onnx", *SIZE, "--baseline", "none.onnx"), "none.onnx: cannot be read"),
        (3, (*AGAINST, *SIZE, "--data", "none.npz"), "none.npz: cannot be read"),
        (3, ("new.onnx", *SIZE, "--markdown", "none/page.md"), "its folder does not exist"),
    ],
)
def test_what_cannot_be_checked_is_one_line(place, code, args, message):
    assert message in place.refuses(code, *args)


def test_a_limit_that_does_not_exist():
    with pytest.raises(UsageError, match="no limit 'max-sise'; there are max-size"):
        check("new.onnx", CheckOptions(limits={"max-sise": 1}))


def test_what_is_wrong_is_said_before_the_long_work(place, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise ModelError("too early")

    monkeypatch.setattr(module, "open_session", refuse)
    assert "no metric" in place.refuses(2, *AGAINST, "--data", "data.npz", "--max-drop", "1", "--metric", "f2")
