"""`onnxmi prune` and `onnxmi apply` on good input: what they write and print, and that it is the same every time."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from onnxmi import load
from onnxmi.cli import main
from tests.support.build import Build

MODELS = ["digits-mlp", "digits-resnet"]


def counts(text):
    """The table's numbers by row name."""
    rows = [line.split("  ") for line in text.splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row[1:] if cell.strip()] for row in rows if row[0].strip()}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, bundled):
    """A folder in which each bundled model has been pruned with all defaults, and what was printed."""
    folder = tmp_path_factory.mktemp("pruned")
    printed = {}
    for name in MODELS:
        for ending in ("onnx", "calib.npz"):
            shutil.copy(bundled / f"{name}.{ending}", folder)
        args = ["prune", f"{folder / name}.onnx", f"{folder / name}.calib.npz", "--keep", "0.5", "--threads", "1"]
        result = CliRunner().invoke(main, args)
        assert (result.exit_code, result.stderr) == (0, "")
        printed[name] = result.stdout
    return folder, printed


# -- what is written --------------------------------------------------------------------------------------------------


def test_default_names_and_nothing_else(pruned):
    folder, _ = pruned
    endings = ("onnx", "calib.npz", "pruned.onnx", "pruned.plan.json")
    assert {p.name for p in folder.iterdir()} == {f"{name}.{ending}" for name in MODELS for ending in endings}


@pytest.mark.parametrize("name", MODELS)
def test_the_result_is_a_smaller_model_with_the_same_interface(pruned, name):
    folder, _ = pruned
    before, after = load(folder / f"{name}.onnx"), load(folder / f"{name}.pruned.onnx")
    onnx.checker.check_model(after.proto, full_check=True)
    assert after.size < 0.4 * before.size
    assert list(after.proto.graph.input) == list(before.proto.graph.input)
    assert list(after.proto.graph.output) == list(before.proto.graph.output)
    assert after.proto.ir_version == before.proto.ir_version


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_says_what_stays(pruned, name):
    folder, _ = pruned
    plan = json.loads((folder / f"{name}.pruned.plan.json").read_text())
    assert plan["schema"] == 1
    assert plan["model"]["sha256"] == load(folder / f"{name}.onnx").digest
    assert plan["options"]["keep"] == 0.5
    assert all(len(layer["kept"]) == layer["size"] // 2 == len(layer["gains"]) for layer in plan["layers"])


def test_output_option(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "-o", "small.v2.onnx")
    assert set(place.contents()) == {"model.onnx", "calib.npz", "small.v2.onnx", "small.v2.plan.json"}


def test_dots_in_the_name_of_the_model(place):
    (place.folder / "model.onnx").rename(place.folder / "model.v1.onnx")
    place.succeeds("prune", "model.v1.onnx", "calib.npz", "--keep", "0.5")
    assert {"model.v1.pruned.onnx", "model.v1.pruned.plan.json"} < set(place.contents())


# -- what is printed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_table_has_everything(pruned, name):
    folder, printed = pruned
    text = printed[name]
    rows = counts(text)
    after = (folder / f"{name}.pruned.onnx").stat().st_size
    assert [len(rows[row]) for row in ("parameters", "file size", "MACs a sample", "latency, one sample")] == [3] * 4
    assert rows["file size"][1] == f"{after / 1e3:.1f} kB"
    assert " ms" in rows["latency, one sample"][0]
    assert re.search(r"logits \(classes\): damage \d+\.\d\d%", text)
    assert re.search(r"accuracy [01]\.\d{4} -> [01]\.\d{4}: -?\d+\.\d points lost", text)
    assert re.search(r"[*] on 1[0-5][0-9] test samples, which nothing was fitted to or chosen on", text)
    assert "Left alone" in text
    assert f"wrote {folder / name}.pruned.onnx" in text
    assert f"wrote {folder / name}.pruned.plan.json" in text


def test_a_verbose_run_lists_every_layer(place):
    result = place.run("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--verbose")
    assert result.exit_code == 0
    rows = counts(result.stdout)
    for layer in json.loads((place.folder / "model.pruned.plan.json").read_text())["layers"]:
        assert rows[layer["name"]] == [layer["kind"], str(layer["size"]), str(len(layer["kept"]))]


def test_the_last_lines_are_the_verdict_and_what_to_do_next(place):
    lines = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5").splitlines()
    last = lines[lines.index("Result") :]
    assert len(last) <= 16
    assert [line.split()[0] for line in last if re.match(r"  \S", line)][:3] == ["speed", "size", "quality"]
    following = last[last.index("Next") + 1 :]
    assert following[0] == "  onnxmi bench model.onnx model.pruned.onnx"
    assert "  onnxmi check model.pruned.onnx --baseline model.onnx --data EVAL.npz --max-drop 1%" in following
    assert "  --report PAGE.html" in following


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_name_is_broken_letter_by_letter(pruned, place, columns):
    folder, _ = pruned
    model = folder / "digits-resnet"
    text = place.succeeds("inspect", f"{model}.onnx", columns=columns)
    assert any(re.search(r" /block2/first/conv/Conv( |$)", line) for line in text.splitlines())
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", columns=columns)
    assert any("latency, one sample" in line for line in text.splitlines())


def test_what_was_left_alone_and_why(place):
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--skip", "fc1")
    left = text.split("Left alone")[1]
    assert "fc1" in left
    assert "excluded by --skip or --only" in left
    assert "it is an axis of the graph input x" in left


def transformer_block():
    """LayerNormalization around a residual feed-forward block: one layer of kind ffn, one of kind width."""
    rng = np.random.default_rng(0)
    stored = {"e": (6, 8), "g": (8,), "b": (8,), "up": (8, 16), "down": (16, 8), "g2": (8,), "b2": (8,), "out": (8, 3)}
    nodes = [
        helper.make_node("MatMul", ["x", "e"], ["h"], name="embed"),
        helper.make_node("LayerNormalization", ["h", "g", "b"], ["n"]),
        helper.make_node("MatMul", ["n", "up"], ["u"], name="up"),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("MatMul", ["r", "down"], ["d"], name="down"),
        helper.make_node("Add", ["h", "d"], ["s"]),
        helper.make_node("LayerNormalization", ["s", "g2", "b2"], ["m"]),
        helper.make_node("MatMul", ["m", "out"], ["y"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def test_a_kind_that_is_cut_on_request_only(place):
    onnx.save(transformer_block(), place.folder / "model.onnx")
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    cut, left = text.split("Left alone")
    assert "up  FFN 8 of 16" in cut
    assert "residual width" not in cut
    assert "layers of kind width are cut only if --cut names them" in left
    wide = place.succeeds(
        "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--cut", "width,ffn", "-o", "narrow.onnx", "--force"
    )
    assert "up     FFN 8 of 16" in wide
    assert "embed  residual width 4 of 8" in wide
    again = place.succeeds(
        "prune", "model.onnx", "calib.npz", "--plan", "narrow.plan.json", "-o", "again.onnx", "--force"
    )
    assert "only if --cut" not in again
    assert place.contents()["again.onnx"] == place.contents()["narrow.onnx"]


def test_only_cuts_nothing_else(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--only", "fc1")
    shapes = {t.name: tuple(t.dims) for t in onnx.load(place.folder / "model.pruned.onnx").graph.initializer}
    assert (shapes["w0"], shapes["w1"], shapes["w2"]) == ((6, 12), (12, 5), (5, 4))


def test_casts_are_said(place, samples):
    np.savez(place.folder / "calib.npz", x=samples().astype(np.float64))
    assert "note: x: cast from float64 to float32" in place.succeeds(
        "prune", "model.onnx", "calib.npz", "--keep", "0.5"
    )


def test_a_layer_under_a_normalization_is_left_alone_for_that_reason(place, samples):
    b = Build(seed=3)
    first = b.op("Transpose", b.conv(b.input("N", 3, 17), 3, 13, (3,)), perm=[0, 2, 1])
    normal = b.op("LayerNormalization", first, b.vector(13), b.vector(13))
    second = b.op("Relu", b.conv(b.op("Transpose", normal, perm=[0, 2, 1]), 13, 23, (3,)))
    proto = b.proto(b.op("GlobalAveragePool", b.conv(second, 23, 5, (1,))))
    onnx.save(proto, place.folder / "model.onnx")
    np.savez(place.folder / "calib.npz", x=np.random.default_rng(0).normal(size=(97, 3, 17)).astype(np.float32))
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--macs", "0.8", "--force")
    assert "a normalization runs over it: cut only if --cut names channels" in " ".join(text.split())
    assert "excluded by" not in text


def test_without_labels_there_is_no_accuracy(place, samples):
    np.savez(place.folder / "calib.npz", x=samples())
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force")
    assert "damage" in text
    assert "accuracy" not in text


def test_one_sample(place, samples):
    np.savez(place.folder / "calib.npz", x=samples(1))
    text = place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force")
    assert "there are no test samples" in text
    assert "nothing was fitted to" not in text
    assert "top answer" not in text


def test_json_is_all_there_is_on_standard_output(place):
    done = place.process("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout, parse_constant=pytest.fail)
    assert data["output"] == "model.pruned.onnx"
    assert data["plan"] == "model.pruned.plan.json"
    assert data["after"]["size"] == (place.folder / "model.pruned.onnx").stat().st_size
    assert data["before"]["macs"] == 6 * 12 + 12 * 10 + 10 * 4
    assert data["after"]["macs"] == 6 * 6 + 6 * 5 + 5 * 4
    assert [layer["after"] for layer in data["layers"]] == [6, 5]
    assert all(check["passed"] for check in data["checks"])
    assert data["latency_ms"]["before"]["median"] > 0
    assert 3 <= data["quality"]["samples"] <= 10
    assert {"reason", "name", "size"} == set(data["frozen"][0])


@pytest.mark.parametrize(
    "options",
    [
        ("--score", "pairwise"),
        ("--score", "pairwise", "--estimator", "binned"),
        ("--score", "magnitude"),
        ("--score", "wanda"),
        ("--score", "variance"),
        ("--score", "random", "--seed", "7"),
        ("--no-repair",),
        ("--threads", "1", "--batch-size", "7"),
        ("--keep", "0.001"),
    ],
    ids=" ".join,
)
def test_every_option_works(place, options):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", *options)
    assert load(place.folder / "model.pruned.onnx").size < load(place.folder / "model.onnx").size


# -- the same every time ----------------------------------------------------------------------------------------------


def outputs(folder):
    return [(folder / name).read_bytes() for name in ("model.pruned.onnx", "model.pruned.plan.json")]


@pytest.mark.parametrize("options", [(), ("--score", "random", "--no-repair")], ids=["joint", "random"])
def test_same_bytes_in_another_folder_and_process(place, tmp_path, options):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    for name in ("model.onnx", "calib.npz"):
        shutil.copy(tmp_path / name, elsewhere)
    assert (
        place.process(
            "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", *options, PYTHONHASHSEED="1"
        ).returncode
        == 0
    )
    args = ("prune", elsewhere / "model.onnx", elsewhere / "calib.npz", "--keep", "0.5", "--force", *options)
    assert place.process(*args, PYTHONHASHSEED="2").returncode == 0
    assert outputs(tmp_path) == outputs(elsewhere)


def test_another_seed_draws_others(place):
    found = set()
    for seed in range(3):
        place.succeeds(
            "prune", "model.onnx", "calib.npz", "--keep", "0.5", "--force", "--score", "random", "--seed", seed
        )
        found.add((place.folder / "model.pruned.onnx").read_bytes())
    assert len(found) > 1


@pytest.mark.parametrize("name", MODELS)
def test_apply_does_what_prune_without_repair_does(pruned, tmp_path, place, name):
    folder, _ = pruned
    model, calib, plan = (folder / f"{name}.{ending}" for ending in ("onnx", "calib.npz", "pruned.plan.json"))
    printed = place.succeeds("apply", model, plan, "-o", "once.onnx")
    place.succeeds("apply", model, plan, "-o", "twice.onnx")
    place.succeeds(
        "prune", model, calib, "--plan", plan, "--no-repair", "--force", "--threads", "1", "-o", "plain.onnx"
    )
    size = (tmp_path / "once.onnx").stat().st_size
    assert printed == f"wrote once.onnx ({size:,} bytes); 5 checks passed; not repaired\n"
    once, twice, plain = ((tmp_path / f"{file}.onnx").read_bytes() for file in ("once", "twice", "plain"))
    assert once == twice == plain
    assert once != (folder / f"{name}.pruned.onnx").read_bytes()


def test_apply_writes_beside_the_model_by_default_and_no_plan(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5", "-o", "a.onnx")
    place.succeeds("apply", "model.onnx", "a.plan.json")
    assert set(place.contents()) == {"model.onnx", "calib.npz", "a.onnx", "a.plan.json", "model.pruned.onnx"}


def test_apply_in_json(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    data = json.loads(place.succeeds("apply", "model.onnx", "model.pruned.plan.json", "--json"))
    assert data["bytes"] == (place.folder / "model.pruned.onnx").stat().st_size
    assert all(check["passed"] for check in data["checks"])


def test_a_plan_that_prune_made_gives_the_same_result(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    place.succeeds("prune", "model.onnx", "calib.npz", "--plan", "model.pruned.plan.json", "-o", "again.onnx")
    files = place.contents()
    assert files["again.onnx"] == files["model.pruned.onnx"]
    assert files["again.plan.json"] == files["model.pruned.plan.json"]


def test_a_plan_edited_by_hand(place):
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    path = place.folder / "model.pruned.plan.json"
    plan = json.loads(path.read_text()) | {"remark": "mine"}
    plan["layers"] = [dict(plan["layers"][0], kept=[1, 4, 7]) | {"gains": []}]
    path.write_text(edited := json.dumps(plan))
    place.succeeds("prune", "model.onnx", "calib.npz", "--plan", path.name, "--force")
    model = onnx.load(place.folder / "model.pruned.onnx")
    assert {t.name: tuple(t.dims) for t in model.graph.initializer}["w0"] == (6, 3)
    assert path.read_text() == edited  # the plan that was given is not written over


def test_old_results_are_replaced(place):
    for name in ("model.pruned.onnx", "model.pruned.plan.json"):
        (place.folder / name).write_text("old")
    place.succeeds("prune", "model.onnx", "calib.npz", "--keep", "0.5")
    assert all(content != b"old" for content in place.contents().values())
