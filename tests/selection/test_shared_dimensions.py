"""Dimensions that all heads share, as rotary positions make them: each head is a consumer of the same units."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.budget.size_grid import uniform
from onnxmi.selection.scores import SCORERS
from onnxmi.selection.targets import Targets
from onnxmi.selection.top_down import SelectOptions, select_channels
from tests.statistics.conftest import Scene, scene_of
from tests.support.build import Build
from tests.support.oracle import Case, assert_exact

HEADS, GROUPS, PAIRS, WIDTH, TOKENS, COUNT = 6, 3, 5, 11, 7, 24
DIMS = 2 * PAIRS


def rotated(b: Build, x: str, tables: list[str]) -> str:
    """Turn each pair (d, d + half) of dimensions, as LLaMA does."""
    low = b.op("Slice", x, b.ints(0), b.ints(PAIRS), b.ints(3))
    high = b.op("Slice", x, b.ints(PAIRS), b.ints(DIMS), b.ints(3))
    turned = b.op("Concat", b.op("Neg", high), low, axis=3)
    return str(b.op("Add", b.op("Mul", x, tables[0]), b.op("Mul", turned, tables[1])))


def decoder(dead: tuple[int, ...] = ()) -> onnx.ModelProto:
    """Attention with rotary positions and grouped keys; the queries of dead pairs are zero."""
    b = Build(seed=4)
    x = b.input("N", TOKENS, WIDTH)
    angles = np.outer(np.arange(TOKENS), 0.3 ** np.arange(PAIRS))
    tables = [b.const(np.tile(f(angles), (1, 2))) for f in (np.cos, np.sin)]
    made = []
    for heads in (HEADS, GROUPS, GROUPS):
        weight = b.rng.normal(size=(WIDTH, heads, DIMS)) / np.sqrt(WIDTH)
        weight[:, :, [d + half for d in dead for half in (0, PAIRS)]] *= 1e-3
        flat = b.op("MatMul", x, b.const(weight.reshape(WIDTH, -1)))
        made.append(b.op("Transpose", b.reshape(flat, 0, 0, heads, DIMS), perm=[0, 2, 1, 3]))
    queries, keys = (rotated(b, one, tables) for one in made[:2])
    many = [
        b.reshape(
            b.op("Expand", b.op("Unsqueeze", one, b.ints(2)), b.ints(1, 1, HEADS // GROUPS, 1, 1)),
            0,
            HEADS,
            TOKENS,
            DIMS,
        )
        for one in (keys, made[2])
    ]
    scores = b.op("Softmax", b.op("MatMul", queries, b.op("Transpose", many[0], perm=[0, 1, 3, 2])), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, many[1]), perm=[0, 2, 1, 3])
    return b.proto(b.dense(b.reshape(mixed, 0, 0, HEADS * DIMS), HEADS * DIMS, 5))


def scene(proto: onnx.ModelProto) -> Scene:
    x = np.random.default_rng(3).normal(size=(COUNT, TOKENS, WIDTH)).astype(np.float32)
    return scene_of(proto, {"x": x})


def test_every_head_is_a_consumer_of_the_units_that_they_share() -> None:
    made = scene(decoder())
    analysis = made.analysis
    (found,) = made.measure(range(COUNT))
    (layer,) = [one for one in analysis.graph.layers if one.kind == "qk"]
    assert (layer.size, layer.outer_atom) == (PAIRS, None)
    targets = Targets.of(analysis, found, labels=False)(layer, Keeping())
    assert [one.units.tolist() for one in targets] == [list(range(PAIRS)) * 2] * HEADS


@pytest.mark.parametrize(
    ("score", "estimator"),
    [
        ("joint", "gaussian"),
        ("pairwise", "gaussian"),
        ("pairwise", "binned"),
        ("wanda", "gaussian"),
        ("variance", "gaussian"),
    ],
)
def test_the_dimensions_that_make_all_heads_scores_are_kept(score: str, estimator: str) -> None:
    made = scene(decoder(dead=(0, 3)))
    analysis = made.analysis
    (found,) = made.measure(range(COUNT), measure=SCORERS[score, estimator].measure)
    layers = [one for one in analysis.graph.layers if one.kind == "qk"]
    options = SelectOptions(score, estimator)
    (choice,) = select_channels(analysis, found, uniform(layers, 0.6), options)
    assert choice.kept.tolist() == [1, 2, 4]


def test_what_is_chosen_is_cut_exactly() -> None:
    case = Case.of(decoder())
    (layer,) = [one for one in case.graph.layers if one.kind == "qk"]
    assert_exact(case, {layer.id: Kept(np.array([1, 2, 4]))})
