"""Positions that nothing reads: what is moved, how far, what stops it, and that the outputs stay."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import onnxmi
from onnxmi import PruneOptions
from onnxmi.cli import main
from onnxmi.model import Model
from onnxmi.runtime.probe import probe
from onnxmi.runtime.session import open_session
from onnxmi.transforms import hoist_gather
from onnxmi.transforms.analysis import analyze
from onnxmi.transforms.hoist_gather import find_unused_positions, hoist_position_gather
from tests.support.build import Build

WIDTH, INNER, CLASSES = 7, 11, 3


def block(b, x):
    """A feed-forward block with a residual connection and a normalisation after it."""
    hidden = b.op("Relu", b.dense(x, WIDTH, INNER))
    added = b.op("Add", b.dense(hidden, INNER, WIDTH), x)
    return b.op("LayerNormalization", added, b.vector(WIDTH), b.vector(WIDTH))


def attention(b, x):
    scores = b.op("Softmax", b.op("MatMul", x, b.op("Transpose", x, perm=[0, 2, 1])))
    return b.op("MatMul", scores, x)


def classifier(before=block, position=0, rest=lambda b, x: [], length="S"):
    """Tokens (N, length, 7), what comes before, one position of it, and a classifier on that."""
    b = Build()
    made = before(b, b.input("N", length, WIDTH))
    first = b.op("Gather", made, b.const(np.array(position)), axis=1, name="first")
    first = b.op("ReduceMax", first, axes=[1], keepdims=0) if np.ndim(position) else first
    return b.proto(b.gemm(first, WIDTH, CLASSES), *rest(b, made))


def narrowed(proto):
    model = Model.of(proto)
    return model, *hoist_position_gather(model, probe(model))


def products(proto, length=5):
    """Rows that each product with stored weights works out, for two samples."""
    names = [node.output[0] for node in proto.graph.node if node.op_type == "MatMul"]
    stored = {tensor.name for tensor in proto.graph.initializer}
    names = [node.output[0] for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in stored]
    x = np.random.default_rng(1).normal(size=(2, length, WIDTH)).astype(np.float32)
    made = open_session(proto, taps=names, optimise=False).run({"x": x})
    return [value.shape[1] for value in made.values()]


def same(old, new, length=5):
    x = np.random.default_rng(2).normal(size=(2, length, WIDTH)).astype(np.float32)
    pairs = zip(open_session(old).run({"x": x}).values(), open_session(new).run({"x": x}).values(), strict=True)
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


# -- it fires ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, -1, [0], [-1]])
@pytest.mark.parametrize("length", ["S", 5])
def test_a_block_works_out_only_the_position_that_is_read(position, length):
    model, made, found = narrowed(classifier(position=position, length=length))
    assert products(model.proto) == [5, 5]
    assert products(made.proto) == [1, 1]
    assert same(model.proto, made.proto)
    assert made.digest == model.digest
    assert found.notes == ("first reads one position: 7 operators before it work out no other any more",)


def test_a_constant_that_nothing_reads_any_more_goes():
    b = Build()
    made = block(b, b.input("N", "S", WIDTH))
    index = b.op("Constant", value=onnx.numpy_helper.from_array(np.array(0)))
    first = b.op("Gather", made, index, axis=1, name="first")
    model, made, _ = narrowed(b.proto(b.gemm(first, WIDTH, CLASSES)))
    assert made is not model
    assert not any(node.op_type == "Constant" for node in made.proto.graph.node)


def test_attention_and_what_is_before_it_go_on_reading_every_position():
    model, made, _ = narrowed(classifier(lambda b, x: block(b, attention(b, block(b, x)))))
    assert products(model.proto) == [5, 5, 5, 5]
    assert products(made.proto) == [5, 5, 1, 1]
    assert same(model.proto, made.proto)


def test_queries_are_worked_out_for_one_position_and_keys_for_all():
    def before(b, x):
        query, key = b.dense(x, WIDTH, WIDTH), b.dense(x, WIDTH, WIDTH)
        scores = b.op("Softmax", b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1])))
        return b.op("MatMul", scores, key)

    model, made, _ = narrowed(classifier(before))
    assert products(made.proto) == [1, 5]
    assert same(model.proto, made.proto)


def decomposed(b, x):
    """A normalisation as exporters before opset 17 write it."""
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1]))
    spread = b.op("ReduceMean", b.op("Pow", centred, b.const(np.array(2.0))), axes=[-1])
    return b.op("Div", centred, b.op("Sqrt", b.op("Add", spread, b.const(np.array(1e-5)))))


def turned(b, x):
    return b.op("Transpose", b.op("Transpose", x, perm=[2, 1, 0]), perm=[2, 1, 0])


def per_token(b, x):
    """Something else of every token, and something of size one: the first is gathered, the second not."""
    share = b.op("Softmax", b.op("ReduceMax", b.op("Abs", "x"), axes=[1], keepdims=1), axis=-1)
    return b.op("Mul", b.op("Mul", x, b.op("Sigmoid", attention(b, "x"))), share)


@pytest.mark.parametrize(
    "step",
    [
        decomposed,
        turned,
        per_token,
        lambda b, x: b.op("Softmax", x, axis=2),
        lambda b, x: b.op("Clip", x, b.const(np.array(-0.5)), b.const(np.array(0.5))),
        lambda b, x: b.op("Where", b.op("Greater", x, b.const(np.array(0.0))), x, b.op("Neg", x)),
        lambda b, x: b.op("BiasGelu", x, b.vector(WIDTH), domain="com.microsoft"),
        lambda b, x: b.op(
            "SkipLayerNormalization", x, b.op("Tanh", x), b.vector(WIDTH), b.vector(WIDTH), domain="com.microsoft"
        ),
        lambda b, x: b.op("Mul", x, b.const(np.random.default_rng(4).normal(size=(1, 1, WIDTH)))),
        lambda b, x: b.op("LogSoftmax", b.op("Cast", x, to=onnx.TensorProto.FLOAT)),
        lambda b, x: b.op("Add", x, b.op("MatMul", x, b.op("Transpose", b.weight(WIDTH, WIDTH), perm=[1, 0]))),
    ],
)
def test_operators_that_treat_positions_alike_are_passed(step):
    model, made, _ = narrowed(classifier(lambda b, x: step(b, b.dense(x, WIDTH, WIDTH))))
    assert products(made.proto)[0] == 1
    assert same(model.proto, made.proto)


def test_a_second_axis_of_rows_goes_through_a_gemm():
    b = Build()
    made = b.op("Gather", b.gemm(b.input("N", WIDTH), WIDTH, INNER), b.const(np.array(0)), axis=0)
    model = Model.of(b.proto(made))
    found, _ = hoist_position_gather(model, probe(model))
    x = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    assert next(iter(open_session(found.proto, taps=["gemm3"]).run({"x": x}).values())).shape == (1, INNER)
    assert np.allclose(*(open_session(proto).run({"x": x})[made] for proto in (model.proto, found.proto)), rtol=1e-5)


# -- what stops it ----------------------------------------------------------------------------------------------------


def over_positions(b, x):
    return b.op("Softmax", b.dense(x, WIDTH, WIDTH), axis=1)


def mean_over_positions(b, x):
    made = b.dense(x, WIDTH, WIDTH)
    return b.op("Sub", made, b.op("ReduceMean", made, axes=[1]))


def stored_for_every_position(b, x):
    return b.op("Add", b.dense(x, WIDTH, WIDTH), b.const(np.random.default_rng(0).normal(size=(1, 5, WIDTH))))


@pytest.mark.parametrize(
    "case",
    [
        {"position": 3},
        {"position": [0, 2]},
        {"rest": lambda b, x: [x]},  # the tensor is an output, too
        {"rest": lambda b, x: [b.op("ReduceMean", x, axes=[1])]},
        {"rest": lambda b, x: [b.op("Cast", b.op("Shape", x), to=onnx.TensorProto.FLOAT)]},
        {"rest": lambda b, x: [b.op("Gather", x, b.const(np.array(-1)), axis=1)]},
        {"before": over_positions},
        {"before": mean_over_positions},
        {"before": stored_for_every_position, "length": 5},
        {"before": lambda b, x: b.op("Relu", x)},  # nothing to save
    ],
)
def test_what_more_is_read_of_is_left_alone(case):
    model, made, found = narrowed(classifier(**case))
    assert made is model
    assert found.notes == ()
    inside = find_unused_positions(
        model.graph, probe(model).shapes
    ).inside  # whatever a comparison of the outputs would catch
    assert not any(model.graph.nodes[index].op == "MatMul" for index in inside)


def test_a_tensor_read_in_a_subgraph_is_left_alone():
    b = Build()
    made = b.dense(b.input("N", 5, WIDTH), WIDTH, WIDTH)
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node(op, [made], [f"in{op}"])],
            op,
            [],
            [onnx.helper.make_tensor_value_info(f"in{op}", onnx.TensorProto.FLOAT, None)],
        )
        for op in ("Relu", "Tanh")
    ]
    whole = b.op("If", b.const(np.array(True)), then_branch=branches[0], else_branch=branches[1])
    first = b.op("Gather", made, b.const(np.array(0)), axis=1)
    model = Model.of(b.proto(b.gemm(first, WIDTH, CLASSES), whole))
    assert not find_unused_positions(model.graph, probe(model).shapes).inside


def test_an_axis_of_what_was_reduced_is_not_that_of_the_operand():
    b = Build()
    means = b.op("ReduceMean", b.dense(b.input("N", 5, WIDTH), WIDTH, WIDTH), axes=[1], keepdims=0)
    model = Model.of(b.proto(b.op("Gather", means, b.const(np.array(0)), axis=1)))
    assert not find_unused_positions(model.graph, probe(model).shapes).inside


def test_a_rewrite_that_changes_an_output_is_not_taken(monkeypatch):
    right = hoist_gather._hoisted
    model = Model.of(classifier())
    seen = probe(model)

    def wrong(model, found):
        last = {index: tuple((o, a, -1) for o, a, _ in entries) for index, entries in found.inside.items()}
        return right(model, replace(found, inside=last))

    seen = replace(seen, feeds={"x": np.random.default_rng(0).normal(size=(2, 5, WIDTH)).astype(np.float32)})
    monkeypatch.setattr(hoist_gather, "_hoisted", wrong)
    assert hoist_position_gather(model, seen)[0] is model


# -- pruning on top of it ---------------------------------------------------------------------------------------------


def samples(count=40):
    return {"x": np.random.default_rng(3).normal(size=(count, 5, WIDTH)).astype(np.float32)}


@pytest.fixture(scope="module")
def encoder():
    return classifier(lambda b, x: block(b, attention(b, block(b, x))))


def test_a_pruned_model_reads_one_position_and_the_costs_count_that(encoder):
    options = PruneOptions(macs=0.6, threads=1, latency=False, align="none")
    result = onnxmi.prune(encoder, samples(), options)
    assert products(result.proto)[2:] == [1, 1]
    assert 0.45 < result.after.macs / result.before.macs <= 0.6
    assert result.before.macs == onnxmi.prune(encoder, samples(), replace(options, macs=0.4)).before.macs
    assert any("first reads one position" in note for note in result.notes)
    assert any("source before anything" in check.name for check in result.checks)


def test_a_budget_met_without_a_cut_gives_the_model_without_those_positions(encoder):
    read = onnxmi.prune(encoder, samples(), PruneOptions(macs=0.95, threads=1, latency=False))
    assert all(choice.count == choice.size for choice in read.plan.choices)
    assert read.after.macs < 0.95 * read.before.macs
    assert same(encoder, read.proto)
    assert same(encoder, onnxmi.apply(encoder, read.plan).model)


def test_a_plan_is_replayed_alike(encoder):
    options = PruneOptions(keep=0.5, threads=1, latency=False, repair=False)
    result = onnxmi.prune(encoder, samples(), options)
    applied = onnxmi.apply(encoder, result.plan)
    again, checks = applied.model, applied.checks
    assert same(result.proto, again)
    assert any("source before anything" in check.name for check in checks)


def test_inspect_says_so(tmp_path, encoder):
    onnx.save(encoder, tmp_path / "m.onnx")
    told = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.onnx")]).output
    assert "first reads one position" in " ".join(told.split())
    data = json.loads(CliRunner().invoke(main, ["inspect", str(tmp_path / "m.onnx"), "--json"]).output)
    assert data["unread"] == list(analyze(encoder).unused_positions.notes)
