"""Inside bodies, too, each operator is refitted on what the model that is repaired so far feeds it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxmi.repair import repair_one_pass
from onnxmi.runtime.routes import Routes
from tests.support import exported
from tests.support.bodies import branch
from tests.support.build import Build

SIZE, WIDTHS = 7, (23, 19, 29, 17)


def deep(b: Build, x: str, seed: int = 0) -> str:
    wide = SIZE
    for width in WIDTHS:
        x, wide = b.op("Tanh", b.gemm(x, wide, width + seed)), width + seed
    return b.gemm(x, wide, 5)


def above(b: Build, x: str, least: float) -> str:
    """Whether the first number of a batch is above something."""
    flat = b.op("Reshape", x, b.ints(-1))
    first = b.op("Gather", flat, b.const(np.array(0)), axis=0)
    return str(b.op("Greater", first, b.const(np.array(least))))


def whole(inside: bool) -> onnx.ModelProto:
    """A network, inside a branch that all samples take, or outside."""
    b = Build(seed=3)
    x = b.input("N", SIZE)
    if not inside:
        return b.proto(deep(b, x), dims=[("N", 5)])
    return b.proto(branch(b, above(b, x, -1e9), lambda: deep(b, x), lambda: b.gemm(x, SIZE, 5)), dims=[("N", 5)])


def test_a_network_in_a_branch_is_repaired_like_one_outside(bench) -> None:
    errors = []
    for inside in (False, True):
        made = bench(whole(inside))
        keeping = made.keep(0.5)
        repaired = made.stepwise(keeping)
        assert sum(note.used for note in repaired.notes) >= len(WIDTHS)
        errors.append(made.error(keeping, repaired.replacements))
        one_pass = repair_one_pass(made.cut(keeping), made.statistics())
        assert errors[-1] < 0.95 * made.error(keeping, one_pass.replacements)
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_a_branch_that_no_sample_takes_learns_nothing_from_what_it_reads(bench) -> None:
    """Its first operator reads a tensor from outside, which is there whatever branch is taken."""
    b = Build(seed=5)
    x = b.input("N", SIZE)
    hidden = b.op("Tanh", b.gemm(x, SIZE, 37))
    made = branch(b, above(b, x, -1e9), lambda: b.gemm(hidden, 37, 13), lambda: b.gemm(hidden, 37, 13))
    bench_of = bench(b.proto(b.gemm(b.op("Tanh", made), 13, 5), dims=[("N", 5)]))
    repaired = bench_of.stepwise(bench_of.keep(0.5))
    inside = [node for node in bench_of.model.graph.nodes if node.depth and node.op == "Gemm"]
    used = {note.operator for note in repaired.notes if note.used}
    assert len(inside) == 2
    assert len(used.intersection(node.label for node in inside)) == 1


def two_ways() -> onnx.ModelProto:
    b = Build(seed=4)
    x = b.input(1, SIZE)
    hidden = b.op("Tanh", b.gemm(x, SIZE, 37))

    def one(width: int) -> str:
        inner = b.op("Tanh", b.gemm(hidden, 37, width))
        return b.gemm(b.op("Tanh", b.gemm(inner, width, 31)), 31, 13)

    made = branch(b, above(b, x, 0.3), lambda: one(27), lambda: one(21))
    return b.proto(b.gemm(b.op("Tanh", made), 13, 5), dims=[(1, 5)])


def test_each_branch_is_repaired_on_the_samples_that_take_it(bench) -> None:
    made = bench(two_ways(), samples=401)
    made.fit, made.validation, made.test = np.split(np.arange(401), [251, 331])
    routes = Routes.of(made.model, [batch.feeds for batch, _ in made.repair_samples().batches()], 1)
    assert len(routes.all) == 2
    keeping = made.keep(0.5)
    repaired = made.stepwise(keeping)
    inside = {node.label for node in made.model.graph.nodes if node.depth and node.op == "Gemm"}
    assert len(inside) == 6
    assert inside <= {note.operator for note in repaired.notes if note.used}
    one_pass = repair_one_pass(made.cut(keeping), made.statistics())
    error = made.error(keeping, repaired.replacements)
    assert error < made.error(keeping, one_pass.replacements)


@pytest.mark.parametrize("make", [exported.scan_rnn, exported.branches_in_a_loop])
def test_a_loop_is_repaired_on_the_states_that_it_comes_to(bench, make: Callable[[], tuple]) -> None:
    made = bench(make()[0])
    keeping = made.keep(0.5)
    one_pass = repair_one_pass(made.cut(keeping), made.statistics())
    looped = {linear.key for linear in made.linears if linear.nodes[0].loops}
    assert looped
    repaired = made.stepwise(keeping, shared=one_pass)
    changed = {one.linear.key: one.weights for one in repaired.replacements if one.linear.key in looped}
    before = {one.linear.key: one.weights for one in one_pass.replacements}
    assert changed
    assert any(not np.array_equal(weights, before.get(key)) for key, weights in changed.items())
    assert made.error(keeping, repaired.replacements) < made.error(keeping, one_pass.replacements)
