"""Layers of which nothing is kept: their branch goes, its constant stays, and what cannot go is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import onnxmi
from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.cli import main
from onnxmi.errors import PlanError
from onnxmi.graph.linear import find_linears
from onnxmi.graph.plan import Choice, Plan, load_plan
from onnxmi.model import Model
from onnxmi.pruning.session import PruningSession
from onnxmi.runtime.session import open_session
from onnxmi.transforms.empty_branches import find_branches
from onnxmi.transforms.prune_channels import Replacement, prune_channels
from onnxmi.verification.checks import check_shapes
from tests.support.build import Build
from tests.support.oracle import Case, gap, random_plan, run
from tests.support.random_models import random_model

NOTHING = Kept(np.zeros(0, dtype=np.int64))


def all_of(case: Case, kind: str, number: int = 0) -> Keeping:
    """Keep nothing of the layer of a kind."""
    return Keeping({[layer for layer in case.graph.layers if layer.kind == kind][number].id: NOTHING})


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def stored(proto: onnx.ModelProto) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer)


def assert_removed(case: Case, keeping: Keeping) -> onnx.ModelProto:
    """The cut model equals the masked original, is valid, and holds nothing that it does not read."""
    cut, feeds = case.cut(keeping), case.feeds()
    assert gap(run(case.masked(keeping), feeds), run(cut, feeds)) < 1e-5
    assert gap(run(case.model.proto, feeds), run(cut, feeds)) > 1e-3, "what is removed does not matter"
    onnx.checker.check_model(cut, full_check=True)
    assert check_shapes(case.graph, case.probe, keeping, cut, case.probe.feeds).passed
    read = {name for node in cut.graph.node for name in node.input} | {info.name for info in cut.graph.output}
    assert {tensor.name for tensor in cut.graph.initializer} <= read
    assert all(read.intersection(node.output) for node in cut.graph.node)
    assert all(0 not in tensor.dims for tensor in cut.graph.initializer)
    return cut


# -- models: a residual stream of 11, hidden units of 13 or 7, three heads of 5 --


def feed_forward(b: Build, x: str) -> str:
    normal = b.op("LayerNormalization", x, b.vector(11), b.vector(11), axis=-1)
    return b.dense(b.op("Gelu", b.dense(normal, 11, 13)), 13, 11)


def attention(b: Build, x: str) -> str:
    normal = b.op("LayerNormalization", x, b.vector(11), b.vector(11), axis=-1)
    heads = []
    for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        lead = b.op("Gather", b.op("Shape", x), b.ints(0, 1))
        shape = b.op("Concat", lead, b.ints(3, 5), axis=0)
        heads.append(b.op("Transpose", b.op("Reshape", b.dense(normal, 11, 15), shape), perm=order))
    scores = b.op("Softmax", b.op("MatMul", heads[0], heads[1]), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    return b.dense(b.reshape(mixed, 0, 0, 15), 15, 11)


def transformer(*blocks: Callable[[Build, str], str]) -> Case:
    b = Build(opset=20)
    x = b.dense(b.input("N", 5, 7), 7, 11)
    for block in blocks:
        x = b.op("Add", x, block(b, x))
    return Case.of(b.proto(b.dense(x, 11, 3), value_info=True))


def side_by_side() -> Case:
    """Attention and feed-forward of the same input, added up before they join the stream."""
    return transformer(lambda b, x: b.op("Add", feed_forward(b, x), attention(b, x)))


def residual_conv(*, bias: bool = True, normal: bool = False, group: int = 1) -> Case:
    b = Build()
    x = b.op("Relu", b.conv(b.input("N", 3, 5, 7), 3, 9))
    hidden = b.op("Relu", b.conv(x, 9, 21))
    if group > 1:
        hidden = b.op("Relu", b.conv(hidden, 21, 21, group=21))
    made = b.conv(hidden, 21, 9) if bias else b.op("Conv", hidden, b.weight(9, 21, 3, 3), pads=[1] * 4)
    made = b.batch_norm(made, 9) if normal else made
    x = b.op("Relu", b.op("Add", made, x))
    return Case.of(b.proto(b.conv(x, 9, 7, kernel=(1, 1)), value_info=True))


def residual_mlp(*, alpha: float = 1.0, beta: float = 1.0) -> Case:
    b = Build()
    x = b.gemm(b.input("N", 7), 7, 11)
    hidden = b.op("Sigmoid", b.gemm(x, 11, 13))
    x = b.op("Add", x, b.gemm(hidden, 13, 11, alpha=alpha, beta=beta))
    return Case.of(b.proto(b.gemm(x, 11, 5)))


# -- what can go --


def test_a_feed_forward_branch() -> None:
    case = transformer(feed_forward, feed_forward)
    cut = assert_removed(case, all_of(case, "ffn"))
    assert operators(cut).count("Gelu") == 1
    assert operators(cut).count("LayerNormalization") == 1
    assert stored(case.model.proto) - stored(cut) == 2 * 11 + 11 * 13 + 13 + 13 * 11  # all but the last bias


def test_all_heads() -> None:
    case = transformer(attention, feed_forward)
    cut = assert_removed(case, all_of(case, "heads"))
    assert not {"Softmax", "Reshape", "Transpose", "Shape", "Gather", "Concat"} & set(operators(cut))


def test_both_branches() -> None:
    case = transformer(attention, feed_forward)
    keeping = Keeping({**all_of(case, "heads"), **all_of(case, "ffn")})
    assert operators(assert_removed(case, keeping)).count("MatMul") == 2


def test_some_heads_go_where_all_hidden_units_do() -> None:
    case = transformer(attention, feed_forward)
    (heads,) = all_of(case, "heads")
    assert_removed(case, Keeping({**all_of(case, "ffn"), heads: Kept(np.array([0, 2]))}))


@pytest.mark.parametrize("kind", ["ffn", "heads"])
def test_branches_side_by_side(kind: str) -> None:
    case = side_by_side()
    assert_removed(case, all_of(case, kind))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"normal": True}, {"group": 21}])
def test_a_residual_convolution_branch(options: dict[str, int]) -> None:
    case = residual_conv(**options)
    keeping = Keeping({layer.id: NOTHING for layer in case.graph.layers if layer.size == 21})
    assert len(keeping) == 1
    assert operators(assert_removed(case, keeping)).count("Conv") == 2


@pytest.mark.parametrize("scales", [{}, {"alpha": 0.5, "beta": 1.5}])
def test_a_residual_mlp_with_its_stream_cut_too(scales: dict[str, float]) -> None:
    case = residual_mlp(**scales)
    stream, hidden = sorted(case.graph.layers, key=lambda layer: layer.size)
    cut = assert_removed(case, Keeping({hidden.id: NOTHING, stream.id: Kept(np.array([0, 3, 4, 9]))}))
    assert operators(cut) == ["Gemm", "Add", "Gemm"]


def test_all_heads_where_the_stream_whose_shape_is_read_is_cut() -> None:
    case = transformer(attention, feed_forward)
    (width,) = [layer for layer in case.graph.layers if layer.kind == "width"]
    assert_removed(case, Keeping({**all_of(case, "heads"), width.id: Kept(np.array([0, 2, 3, 5, 7, 10]))}))


def test_random_models() -> None:
    """Nothing of each layer in turn, beside a random plan: it is refused, or exact."""
    removed = 0
    for seed in range(150):
        rng = random.Random(seed)
        case = Case.of(random_model(rng, smooth=True))
        for layer in case.graph.layers:
            keeping = Keeping({**random_plan(case.graph, rng), layer.id: NOTHING})
            ragged = any(kept.outer_atom == layer.id for kept in keeping.values())
            if layer.grade != "exact" or ragged or not case.cut_of(keeping).is_possible:
                continue
            removed += 1
            cut, feeds = case.cut(keeping), case.feeds()
            assert gap(run(case.masked(keeping), feeds), run(cut, feeds)) < 1e-5, (seed, layer.name)
            assert check_shapes(case.graph, case.probe, keeping, cut, case.probe.feeds).passed, (seed, layer.name)
    assert removed > 5


def test_what_is_not_cut_stays_to_the_byte() -> None:
    case = residual_mlp()
    assert case.cut({}).SerializeToString(deterministic=True) == case.model.proto.SerializeToString(deterministic=True)
    assert case.cut_of({}).is_possible


# -- what cannot --


def refusal(case: Case, keeping: Keeping) -> str:
    assert not case.cut_of(keeping).is_possible
    with pytest.raises(PlanError) as caught:
        find_branches(case.analysis, keeping)
    with pytest.raises(PlanError):
        case.cut(keeping)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hidden_then(step: Callable[[Build, str, str], str], width: int) -> Case:
    """A hidden layer of 13 in a branch of 11 beside the stream, and a step on the two."""
    b = Build()
    x = b.gemm(b.input("N", 7), 7, 11)
    branch = b.gemm(b.op("Relu", b.gemm(x, 11, 13)), 13, 11)
    return Case.of(b.proto(b.gemm(step(b, x, branch), width, 5)))


def hidden(case: Case) -> Keeping:
    return Keeping({layer.id: NOTHING for layer in case.graph.layers if layer.size == 13})


@pytest.mark.parametrize(
    ("step", "width", "op"),
    [
        (lambda b, x, branch: b.op("Concat", x, branch, axis=1), 22, "Concat"),
        (lambda b, x, branch: b.op("Relu", branch), 11, "Gemm"),
        (lambda b, x, branch: b.op("Add", branch, b.vector(11)), 11, "Gemm"),
        (lambda b, x, branch: b.op("Add", branch, b.op("ReduceMean", x, axes=[0])), 11, "Add"),
        (lambda b, x, branch: b.op("Add", x, b.op("Softmax", branch, axis=-1)), 11, "Softmax"),
    ],
)
def test_a_result_that_has_to_be_of_full_size(step: Callable[..., str], width: int, op: str) -> None:
    case = hidden_then(step, width)
    assert f"({op}) needs all of what the branch gave" in refusal(case, hidden(case))


def test_an_output_that_would_be_constant() -> None:
    b = Build()
    case = Case.of(b.proto(b.gemm(b.op("Relu", b.gemm(b.input("N", 7), 7, 13)), 13, 5)))
    assert "would be a constant" in refusal(case, hidden(case))


def test_an_operator_that_cannot_do_without_its_input() -> None:
    b = Build()
    x = b.gemm(b.input("N", 7), 7, 11)
    first = b.op("Relu", b.gemm(x, 11, 13))
    joined = b.op("Concat", first, b.gemm(x, 11, 5), axis=1)
    case = Case.of(b.proto(b.gemm(joined, 18, 3)))
    assert "(Concat) cannot do without it" in refusal(case, hidden(case))


def test_queries_and_keys_cannot_go() -> None:
    case = transformer(attention)
    assert "(MatMul) cannot do without it" in refusal(case, all_of(case, "qk"))


# -- plans, and the way through the program --


def plan_of(case: Case, kind: str) -> Plan:
    (layer,) = [layer for layer in case.graph.layers if layer.kind == kind]
    return Plan(case.model.digest, (Choice(layer.name, kind, layer.size, NOTHING.indices),), {})


def test_a_plan_that_keeps_nothing_survives_its_file(tmp_path) -> None:
    case = transformer(feed_forward)
    plan = plan_of(case, "ffn")
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert json.loads(plan.to_json())["layers"][0]["kept"] == []
    read = load_plan(tmp_path / "plan.json")
    assert read.to_json() == plan.to_json()
    assert [kept.count for kept in read.keeping(case.graph).values()] == [0]
    applied = onnxmi.apply(case.model.proto, read)
    cut, checks = applied.model, applied.checks
    assert all(check.passed for check in checks)
    assert "Gelu" not in operators(cut)


def test_a_layer_that_is_normalised_over_is_not_removed() -> None:
    case = transformer(feed_forward)
    with pytest.raises(PlanError, match="keeps nothing, and a normalization runs over it"):
        plan_of(case, "width").keeping(case.graph)


@pytest.mark.parametrize(
    ("case", "kind", "gone"),
    [
        (transformer(attention, feed_forward), "ffn", "Gelu"),
        (transformer(attention, feed_forward), "heads", "Softmax"),
        (side_by_side(), "ffn", "Gelu"),
        (side_by_side(), "heads", "Softmax"),
    ],
)
def test_what_the_branch_added_on_average_goes_into_a_bias(case: Case, kind: str, gone: str) -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(loc=0.5, size=(97, 5, 7)).astype(np.float32)}
    results = {
        repair: onnxmi.prune(
            case.model.proto, data, onnxmi.PruneOptions(keep=0.5, repair=repair, force=True), plan=plan_of(case, kind)
        )
        for repair in (False, True)
    }
    assert all(gone not in operators(result.proto) for result in results.values())
    errors = {repair: result.quality.relative_error for repair, result in results.items()}
    assert errors[True] < 0.8 * errors[False]
    assert any(note.used for note in results[True].repairs)


@pytest.mark.parametrize("case", [residual_conv(), residual_conv(bias=False, normal=True), residual_conv(group=21)])
def test_what_a_convolution_added_on_average_goes_into_a_bias(case: Case) -> None:
    (layer,) = [layer for layer in case.graph.layers if layer.size == 21]
    plan = Plan(case.model.digest, (Choice(layer.name, layer.kind, layer.size, NOTHING.indices),), {})
    data = {"x": np.random.default_rng(0).normal(size=(61, 3, 5, 7)).astype(np.float32)}
    plain, repaired = (
        onnxmi.prune(case.model.proto, data, onnxmi.PruneOptions(keep=0.5, repair=repair, force=True), plan=plan)
        for repair in (False, True)
    )
    assert operators(repaired.proto).count("Conv") == 2
    assert repaired.quality.relative_error < 0.95 * plain.quality.relative_error


def test_the_shift_of_a_repair_is_added_to_the_constant() -> None:
    case = residual_mlp()
    (layer,) = [layer for layer in case.graph.layers if layer.size == 13]
    keeping = Keeping({layer.id: NOTHING})
    (linear,) = [found for found in find_linears(case.model.graph, case.graph) if found.features == 13]
    shift = np.arange(11.0)
    plain, shifted = (
        prune_channels(case.cut_of(keeping), made) for made in ((), (Replacement(linear, np.zeros((13, 0)), shift),))
    )
    constants = [numpy_helper.to_array(proto.graph.initializer[-1]) for proto in (plain, shifted)]
    assert constants[0].shape == (1, 11)
    np.testing.assert_allclose(constants[1] - constants[0], shift[None], atol=1e-5)


@pytest.mark.parametrize("way", ["at once", "step by step"])
def test_both_ways_of_repair_store_the_mean_of_what_was_lost(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = residual_mlp(beta=1.5)
    (layer,) = [layer for layer in case.graph.layers if layer.size == 13]
    plan = Plan(case.model.digest, (Choice(layer.name, layer.kind, layer.size, NOTHING.indices),), {})
    data = {"x": np.random.default_rng(0).normal(size=(173, 7)).astype(np.float32)}
    # Stepwise, one-pass with the means put right, unrepaired with the means put right, unrepaired.
    order = iter([1.0, 0.0, 2.0, 2.0] if way == "at once" else [0.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(PruningSession, "validation_damage", lambda *_: next(order))
    result = onnxmi.prune(case.model.proto, data, onnxmi.PruneOptions(force=True), plan=plan)
    (found,) = [tensor for tensor in result.proto.graph.initializer if tuple(tensor.dims) == (1, 11)]
    (linear,) = [linear for linear in find_linears(case.model.graph, case.graph) if linear.features == 13]
    made = open_session(case.model.proto, taps=[linear.key]).run(data)[linear.key]
    alone = 1.5 * case.model.graph.constant(linear.biases[0].stored.name)
    assert (
        np.abs(numpy_helper.to_array(found)[0] - made.mean(axis=0)).max()
        < 0.1 * np.abs(made.mean(axis=0) - alone).max()
    )


def test_a_branch_that_cannot_go_is_refused_before_anything_is_measured() -> None:
    case = transformer(attention)
    (layer,) = [layer for layer in case.graph.layers if layer.kind == "qk"]
    plan = Plan(case.model.digest, (Choice(layer.name, "qk", layer.size, NOTHING.indices),), {})
    data = {"x": np.zeros((41, 5, 7), dtype=np.float32)}
    with pytest.raises(PlanError, match="cannot do without it"):
        onnxmi.prune(case.model.proto, data, plan=plan, progress=lambda *_: pytest.fail("it has begun"))


@pytest.mark.parametrize("kind", ["heads", "ffn"])
def test_the_rest_is_repaired_where_the_stream_is_cut_too(kind: str) -> None:
    case = transformer(attention, feed_forward)
    (width,) = [layer for layer in case.graph.layers if layer.kind == "width"]
    choices = (*plan_of(case, kind).choices, Choice(width.name, "width", 11, np.array([0, 2, 3, 5, 7, 8, 10])))
    data = {"x": np.random.default_rng(0).normal(loc=0.5, size=(97, 5, 7)).astype(np.float32)}
    plain, repaired = (
        onnxmi.prune(
            case.model.proto,
            data,
            onnxmi.PruneOptions(keep=0.5, repair=repair, force=True),
            plan=Plan(case.model.digest, choices, {}),
        )
        for repair in (False, True)
    )
    assert repaired.quality.relative_error < 0.8 * plain.quality.relative_error
    labels = {node.label for node in Model.of(repaired.proto).graph.nodes}
    last = {linear.label for linear in find_linears(case.model.graph, case.graph) if linear.features in (13, 15)}
    assert {note.operator for note in repaired.repairs} <= labels | last, "of what is gone, nothing is told"


def test_prune_with_a_plan_that_keeps_nothing(tmp_path, monkeypatch) -> None:
    case = transformer(attention, feed_forward)
    plan = plan_of(case, "heads")
    onnx.save(case.model.proto, tmp_path / "model.onnx")
    np.savez(tmp_path / "calib.npz", x=np.random.default_rng(0).normal(size=(41, 5, 7)).astype(np.float32))
    (tmp_path / "plan.json").write_text(plan.to_json())
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main, ["prune", "model.onnx", "calib.npz", "--plan", "plan.json", "--force", "-o", "out.onnx"]
    )
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert "Softmax" not in operators(onnx.load(tmp_path / "out.onnx"))
