"""Tables of words that are split: which, along which axes, that the outputs stay, and what a plan of them is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import onnxmi
from onnxmi import PruneOptions
from onnxmi.data.sources import as_calibration
from onnxmi.errors import PlanError, StatisticsError
from onnxmi.model import Model
from onnxmi.pruning.session import session_statistics, start_session
from onnxmi.pruning.sizing import sizing_problem
from onnxmi.runtime.session import open_session
from onnxmi.transforms.analysis import analyze
from onnxmi.transforms.factorize_embedding import (
    document_counts,
    factorize_embeddings,
    find_embedding_tables,
    principal_axes,
)
from tests.support.build import Build

WORDS, WIDTH, INNER, CLASSES = 101, 11, 13, 3
OPTIONS = PruneOptions(keep=0.5, cut=("embedding", "ffn"), threads=1, latency=False)


def encoder(looked_up=lambda b, ids, table: b.op("Gather", table, ids), words=WORDS, **more):
    """Words, a normalisation, a feed-forward block with a residual connection, and a classifier on every word."""
    b = Build(**more)
    ids = b.input("N", "S", name="ids", dtype=np.int64)
    x = looked_up(b, ids, b.weight(words, WIDTH, name="table"))
    x = b.op("LayerNormalization", x, b.vector(WIDTH), b.vector(WIDTH))
    x = b.op("Add", x, b.dense(b.op("Relu", b.dense(x, WIDTH, INNER)), INNER, WIDTH))
    x = b.op("LayerNormalization", x, b.vector(WIDTH), b.vector(WIDTH))
    return b.proto(b.dense(x, WIDTH, CLASSES))


def sentences(count=60, seed=0):
    """Frequent words have small numbers."""
    rng = np.random.default_rng(seed)
    return {"ids": np.minimum(rng.geometric(0.05, size=(count, 5)), WORDS) - 1}


def split(proto):
    model = Model.of(proto)
    data = as_calibration(sentences(), model)
    return model, factorize_embeddings(model, data, np.arange(data.count))


def table_of(proto):
    return next(tuple(tensor.dims) for tensor in proto.graph.initializer if tensor.name == "table")


# -- which tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "looked_up",
    [
        lambda b, ids, table: b.op("Gather", table, ids),
        lambda b, ids, table: b.op("Gather", table, b.op("Identity", b.op("Cast", ids, to=6)), axis=0),
    ],
)
def test_a_table_of_words_is_split_and_the_outputs_stay(looked_up, dtype):
    model, made = split(encoder(looked_up, dtype=dtype))
    assert [layer.size for layer in analyze(made).graph.layers if layer.kind == "embedding"] == [WIDTH]
    old, new = (next(iter(open_session(m.proto).run(sentences(7)).values())) for m in (model, made))
    assert np.allclose(old, new, rtol=0.0, atol=1e-5 if dtype == np.float32 else 2e-2)
    assert made.digest == model.digest


@pytest.mark.parametrize(
    "case",
    [
        {"words": 4 * WIDTH - 1},  # positions or kinds of token
        {"looked_up": lambda b, ids, table: b.op("Gather", table, b.op("Add", ids, b.ints(0)))},  # not what is fed
        {"looked_up": lambda b, ids, table: b.op("Add", *(b.op("Gather", table, ids) for _ in range(2)))},  # tied
        {"looked_up": lambda b, ids, table: b.op("MatMul", b.op("Gather", table, ids), b.weight(WIDTH, WIDTH))},
        {
            "looked_up": lambda b, ids, table: b.op(
                "Transpose", b.op("Gather", b.op("Transpose", table), ids, axis=1), perm=[1, 2, 0]
            )
        },
    ],
)
def test_other_tables_are_left_alone(case):
    model, made = split(encoder(**case))
    assert made is model


def test_a_table_that_is_split_already_is_a_layer_that_is_cut_without_being_asked_for():
    def projected(b, ids, table):
        return b.op("MatMul", b.op("Gather", table, ids), b.weight(WIDTH, WIDTH))

    result = onnxmi.prune(encoder(projected), sentences(), replace(OPTIONS, cut=()))
    assert [choice.kind for choice in result.plan.choices] == ["embedding", "ffn"]
    assert table_of(result.proto) == (WORDS, round(WIDTH / 2))


# -- the axes ---------------------------------------------------------------------------------------------------------


def test_a_word_counts_once_a_sample():
    ids = np.array([[3, 3, 0, 0], [3, 1, 0, 0], [-1, 9, 0, 0]])
    assert document_counts(ids, 5).tolist() == [3, 1, 0, 2, 1]  # -1 is the last word; there is no word 9
    assert document_counts(ids[:0], 5).tolist() == [0] * 5


def test_axes_are_those_of_the_largest_weighted_moments():
    rows = np.diag([1.0, 2.0, 3.0, 0.5, 1.5])
    weights = np.array([90.0, 1.0, 1.0, 1.0, 2.0])  # moments 90, 4, 9, 1/4, 4.5
    assert np.allclose(principal_axes(rows, weights), np.eye(5)[:, [0, 2, 4, 1, 3]])
    drawn = np.random.default_rng(0).normal(size=(17, 5))
    axes = principal_axes(drawn, np.ones(17))
    assert np.allclose(axes.T @ axes, np.eye(5))
    assert np.all(np.diff(np.square(drawn @ axes).sum(axis=0)) < 0)


def test_words_that_no_sample_has_count_a_little():
    model = Model.of(encoder())
    data = as_calibration({"ids": np.zeros((1, 5), dtype=np.int64)}, model)
    table = factorize_embeddings(model, data, np.arange(1)).graph.constant("table")
    moments = (table.T * np.where(np.arange(WORDS) == 0, 1.5, 0.5)) @ table
    assert np.allclose(moments, np.diag(np.diag(moments)), atol=1e-4)
    assert np.all(np.diff(np.diag(moments)) < 0)


# -- pruning on top of it ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return encoder()


@pytest.fixture(scope="module")
def pruned(model):
    return onnxmi.prune(model, sentences(), OPTIONS)


def test_the_width_of_the_table_is_cut_and_that_of_the_stream_stays(pruned):
    assert table_of(pruned.proto) == (WORDS, round(WIDTH / 2))
    assert {choice.kind: choice.size for choice in pruned.plan.choices} == {"embedding": WIDTH, "ffn": INNER}
    assert pruned.before.parameters == 101 * 11 + 4 * 11 + (11 * 13 + 13) + (13 * 11 + 11) + (11 * 3 + 3)
    assert any("source before anything" in check.name for check in pruned.checks)


def test_what_stays_are_axes_with_much_of_the_words(pruned):
    kept = next(choice.kept for choice in pruned.plan.choices if choice.kind == "embedding")
    assert kept.mean() < (WIDTH - 1) / 2


def test_a_size_is_met(model):
    size = len(model.SerializeToString()) * 0.75
    result = onnxmi.prune(model, sentences(), replace(OPTIONS, keep=None, max_size=size, cut=("embedding",)))
    assert 0.6 * size < result.after.size <= size


def test_costs_are_shared_out_of_what_the_source_costs(model):
    session = start_session(Model.of(model), sentences(), OPTIONS, split_tables=True)
    session = replace(session, measured=session_statistics(session, None, lambda *_: None, selects=True))
    problem, dense = sizing_problem(session, {"size", "params", "macs"}), session.dense_cost
    assert problem.source["params"] == pytest.approx(dense.parameters)
    assert problem.source["macs"] == pytest.approx(dense.macs)
    assert problem.source["size"] == pytest.approx(dense.size)
    assert problem.costs["params"].total({}) == pytest.approx(dense.parameters + WIDTH * WIDTH)


def test_a_plan_needs_its_own_samples(model, pruned):
    again = onnxmi.prune(model, sentences(), PruneOptions(threads=1, latency=False), plan=pruned.plan)
    assert again.proto.SerializeToString() == pruned.proto.SerializeToString()
    for attempt in (
        lambda: onnxmi.apply(model, pruned.plan),
        lambda: onnxmi.prune(model, sentences(seed=1), PruneOptions(threads=1), plan=pruned.plan),
        lambda: onnxmi.prune(model, sentences(), PruneOptions(threads=1, seed=1), plan=pruned.plan),
    ):
        with pytest.raises(PlanError, match="axes of the plan's own samples"):
            attempt()


def test_statistics_of_the_whole_table_are_refused(model):
    measured = onnxmi.collect(model, sentences(), PruneOptions(threads=1))
    with pytest.raises(StatisticsError):
        onnxmi.prune(model, sentences(), OPTIONS, statistics=measured)


def test_what_is_not_asked_for_is_not_split(model):
    result = onnxmi.prune(model, sentences(), replace(OPTIONS, cut=()))
    assert table_of(result.proto) == (WORDS, WIDTH)
    assert not list(find_embedding_tables(Model.of(encoder(words=7)).graph))
