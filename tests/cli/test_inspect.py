"""`onnxmi inspect`: what can be cut, and what cannot and why."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from tests.support.build import Build

STEM = "/stem/conv/Conv"


@pytest.fixture
def resnet(bundled):
    return bundled / "digits-resnet.onnx"


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_table_fits_the_terminal(place, resnet, columns):
    text = place.succeeds("inspect", resnet, columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert text.count("\n") < 40
    assert sum(line.startswith(tuple(f" {number} /" for number in range(1, 7))) for line in text.splitlines()) == 6


def test_a_layer_says_where_it_is_made_and_used_and_what_hangs_on_it(place, resnet):
    lines = place.succeeds("inspect", resnet).splitlines()
    start = next(i for i, line in enumerate(lines) if STEM in line)
    assert lines[start].split() == ["1", STEM, "channels", "16", "10,000", "56.9%"]
    assert lines[start + 1].strip() == "also made by /block1/second/conv/Conv"
    assert lines[start + 2].strip() == "used by /block1/first/conv/Conv +2"


def test_frozen_axes_have_reasons(place):
    text = place.succeeds("inspect", "model.onnx")
    assert "it is an axis of the graph input x" in text.split("Left alone")[1]


def test_a_model_with_nothing_to_cut(place, mlp):
    onnx.save(mlp(sizes=(6, 4)), place.folder / "one.onnx")
    assert "Layers that can be cut\n  none\n" in place.succeeds("inspect", "one.onnx")


def test_it_says_what_the_outputs_mean(place, resnet):
    text = " ".join(place.succeeds("inspect", resnet, columns=200).split())
    assert "Outputs logits: classes (a guess), numbers along axis 1 (10 columns)" in text
    text = " ".join(place.succeeds("inspect", resnet, "--output", "logits:embedding*2").split())
    assert "logits: embedding, numbers along axis 1 (10 columns); as given; weight 2" in text
    data = json.loads(place.succeeds("inspect", resnet, "--json"))["outputs"]
    assert [(view["name"], view["kind"], view["axes"], view["tentative"]) for view in data["compared"]] == [
        ("logits", "classes", [1], True)
    ]
    assert data["ignored"] == {}


def test_outputs_that_are_not_there_are_refused(place, resnet):
    assert "no output 'z'; there are logits" in place.fails(2, "inspect", resnet, "--output", "z:map")
    assert "nothing is left to compare" in place.fails(2, "inspect", resnet, "--ignore-output", "logits")


def test_nothing_left_alone(place, resnet):
    assert "Left alone\n  nothing\n" in place.succeeds("inspect", resnet)


def test_long_lists_are_cut_short(place, mlp):
    proto = mlp(sizes=(6, *range(20, 36), 4))
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(f"h{number}", onnx.TensorProto.FLOAT, None) for number in range(16)
    )
    onnx.save(proto, place.folder / "deep.onnx")
    text = place.succeeds("inspect", "deep.onnx")
    assert "... and 5 more; --json has them all" in text
    data = json.loads(place.succeeds("inspect", "deep.onnx", "--json"))
    assert len(data["frozen"]) == 17


def test_json(place, resnet):
    done = place.process("inspect", resnet, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout, parse_constant=pytest.fail)
    stem = data["layers"][0]
    assert (stem["name"], stem["size"], stem["grade"], stem["kind"]) == (STEM, 16, "exact", "channels")
    assert stem["made_by"] == [STEM, "/block1/second/conv/Conv"]
    assert len(stem["used_by"]) == 3
    assert data["probed_with"] == {"image": [3, 1, 8, 8]}
    assert data["model"]["bytes"] == resnet.stat().st_size


def test_it_writes_nothing(place):
    before = place.contents()
    place.succeeds("inspect", "model.onnx")
    assert place.contents() == before


def test_it_shows_the_whole_model_its_inputs_and_what_is_cut_by_default(place):
    text = place.succeeds("inspect", "model.onnx", columns=200)
    assert "258 parameters, " in text
    assert "x: float32 (batch, 6), run with (3, 6)" in text
    assert "cut by default: channels, embedding, ffn, heads, hidden; only if --cut names them: " in text
    data = json.loads(place.succeeds("inspect", "model.onnx", "--json"))
    assert data["totals"]["parameters"] == 258
    assert data["totals"]["macs"] == 3 * (6 * 12 + 12 * 10 + 10 * 4)
    assert data["inputs"] == [{"name": "x", "type": "float32", "dims": ["batch", 6], "probed_with": [3, 6]}]
    assert [(layer["number"], layer["name"], layer["by_default"]) for layer in data["layers"]] == [
        (1, "fc0", True),
        (2, "fc1", True),
    ]


def test_long_names_are_shown_short_and_taken_so(place, mlp):
    prefix = "StatefulPartitionedCall/sequential/"
    proto = mlp()
    for node in filter(lambda node: node.name, proto.graph.node):
        node.name = f"{prefix}{node.name}/Relu;{prefix}{node.name}/MatMul"
    onnx.save(proto, place.folder / "keras.onnx")
    text = place.succeeds("inspect", "keras.onnx", columns=120)
    assert "sequential/fc0/Relu" in text
    assert prefix not in text
    assert "long names are shown by their ends" in " ".join(text.split())
    run = ("prune", "keras.onnx", "calib.npz", "--keep", "0.5", "--threads", "1", "--json")
    for pattern in ("sequential/fc0/*", "1", f"{prefix}fc0/*"):
        data = json.loads(place.succeeds(*run, "--only", pattern))
        assert [layer["name"] for layer in data["layers"]] == [proto.graph.node[0].name]
    assert "excluded by --skip or --only" in place.succeeds(*run[:-1], "--only", "1", columns=200)


def test_numbers_are_refused_where_inspect_has_others(place):
    b = Build(seed=0)
    words = b.op("Gather", b.weight(64, 7), b.input("N", "s", dtype=np.int64))
    hidden = b.op("Relu", b.gemm(b.op("ReduceMean", words, axes=[1], keepdims=0), 7, 11))
    onnx.save(b.proto(b.gemm(hidden, 11, 5)), place.folder / "words.onnx")
    np.savez(place.folder / "words.npz", x=np.random.default_rng(0).integers(0, 64, size=(40, 9)))
    run = ("prune", "words.onnx", "words.npz", "--keep", "0.5", "--cut", "embedding,hidden", "--only")
    assert "numbers are those of `onnxmi inspect`" in place.fails(2, *run, "1")
