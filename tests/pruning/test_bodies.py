"""Whole runs on models with bodies: what is inside is cut, refitted and checked like everything else."""

from __future__ import annotations

import numpy as np
import pytest

import onnxmi
from onnxmi.data.sources import as_calibration
from onnxmi.pruning.taken_branches import find_taken_branches
from onnxmi.runtime.session import open_session
from tests.support import exported
from tests.support.bodies import branch, loop
from tests.support.build import Build
from tests.support.oracle import Case

SETTINGS = {"threads": 1, "latency": False}


@pytest.mark.parametrize("name", ["keras_gru", "scan_rnn", "nested_if", "merged_decoder", "crnn", "branches_in_a_loop"])
def test_a_model_with_bodies_loses_two_fifths_of_its_parameters(name: str) -> None:
    proto, arrays = getattr(exported, name)()
    result = onnxmi.prune(proto, arrays, params=0.55, **SETTINGS)
    assert result.after.parameters <= 0.6 * result.before.parameters
    assert result.after.macs < result.before.macs
    assert all(check.passed and "not applicable" not in check.detail for check in result.checks)
    assert result.damage.total < 0.3
    assert not [note for note in result.notes if "sensitivity" in note]


@pytest.mark.parametrize("name", ["keras_gru", "scan_rnn", "nested_if", "branches_in_a_loop"])
def test_what_is_inside_a_body_is_refitted(name: str) -> None:
    proto, arrays = getattr(exported, name)()
    case = Case.of(proto)
    inside = {node.label for node in case.model.graph.nodes if node.depth}
    plain, refitted = (onnxmi.prune(proto, arrays, keep=0.6, repair=on, force=True, **SETTINGS) for on in (False, True))
    assert inside & {note.operator for note in refitted.repairs if note.used}
    assert refitted.damage.total < 0.7 * plain.damage.total


def one_sided(sign: int) -> tuple[Build, str]:
    """A branch for samples whose first number is positive, and another one."""
    b = Build(seed=3)
    x = b.input(1, 7)
    first = b.op("ReduceSum", b.op("Slice", x, b.ints(0), b.ints(1), b.ints(1)), keepdims=0)

    def one(units: int) -> str:
        return b.gemm(b.op("Relu", b.gemm(x, 7, units)), units, 3)

    y = branch(
        b, b.op("Greater", first, b.const(np.array(1e9 if sign < 0 else -1e9))), lambda: one(13), lambda: one(17)
    )
    return b, y


@pytest.mark.parametrize(("sign", "taken", "idle"), [(1, 13, 17), (-1, 17, 13)])
def test_a_branch_that_no_sample_takes_is_left_alone_and_that_is_said(sign: int, taken: int, idle: int) -> None:
    b, y = one_sided(sign)
    arrays = {"x": np.random.default_rng(1).normal(size=(101, 7)).astype(np.float32)}
    result = onnxmi.prune(b.proto(y, dims=[(1, 3)]), arrays, keep=0.5, force=True, **SETTINGS)
    assert [choice.size for choice in result.plan.choices] == [taken]
    assert [layer.size for layer in result.idle] == [idle]
    assert "it is in a branch that no sample takes" in str(result)


def test_the_checks_are_run_on_samples_that_take_every_branch() -> None:
    proto, arrays = exported.nested_if()
    case = Case.of(proto)
    data = as_calibration(arrays, case.model)
    taken = find_taken_branches(case.model, data, 1)
    assert not taken.idle
    assert 1 < len(taken.feeds) <= 4


def test_a_branch_that_only_runs_where_it_is_taken_is_left_alone() -> None:
    """Its rows are looked up beyond the end of the table in the iterations that take the other branch."""
    b = Build(seed=4)
    x = b.input("N", 7)
    table, far = b.weight(3, 13), b.const(np.array(50))
    inside = b.weight(13, 13), b.weight(13, 13)

    def step(iteration: str, state: str) -> list[str]:
        first = b.op("Equal", iteration, b.const(np.array(0)))

        def looked_up() -> str:
            row = b.op("Gather", table, b.op("Mul", iteration, far), axis=0)
            return b.op("Add", b.op("MatMul", state, inside[0]), row)

        return [b.op("Tanh", branch(b, first, looked_up, lambda: b.op("MatMul", state, inside[1])))]

    state = loop(b, 3, step, b.op("Relu", b.gemm(b.op("Relu", b.gemm(x, 7, 23)), 23, 13)))
    proto = b.proto(b.gemm(state, 13, 3), dims=[("N", 3)])
    arrays = {"x": np.random.default_rng(1).normal(size=(101, 7)).astype(np.float32)}
    result = onnxmi.prune(proto, arrays, keep=0.5, force=True, **SETTINGS)
    assert [choice.size for choice in result.plan.choices] == [23]
    assert all(check.passed for check in result.checks)


def test_a_squeeze_of_an_axis_that_may_be_one_freezes_nothing() -> None:
    """Exporters write `squeeze` as an If on the size; its branch runs on one sample alone, and holds no weights."""
    b = Build(seed=4)
    x = b.input("N", 7)
    hidden = b.op("Relu", b.gemm(x, 7, 23))
    first = b.op("Equal", b.op("Gather", b.op("Shape", hidden), b.ints(0)), b.ints(1))
    made = branch(b, first, lambda: b.op("Squeeze", hidden, b.ints(0)), lambda: b.op("Identity", hidden))
    proto = b.proto(b.reshape(b.op("MatMul", made, b.weight(23, 3)), -1, 3), dims=[("N", 3)])
    arrays = {"x": np.random.default_rng(1).normal(size=(101, 7)).astype(np.float32)}
    result = onnxmi.prune(proto, arrays, keep=0.5, force=True, **SETTINGS)
    assert [choice.size for choice in result.plan.choices] == [23]
    one = {"x": arrays["x"][:1]}
    assert open_session(result.proto).run(one)[proto.graph.output[0].name].shape == (1, 3)


def test_a_merged_decoder_is_cut_on_the_caches_that_it_comes_to() -> None:
    proto, arrays = exported.merged_decoder()
    caches = [info.name for info in proto.graph.input if info.name.startswith("past")]
    pairs = [f"{info.name}={cache}" for info, cache in zip(proto.graph.output[1:], caches, strict=True)]
    given = {name: array for name, array in arrays.items() if name not in caches}
    samples = onnxmi.source(given, sequences=True, states=pairs)
    result = onnxmi.prune(proto, samples, params=0.55, **SETTINGS)
    assert result.after.parameters <= 0.6 * result.before.parameters
    assert all(check.passed for check in result.checks)
    assert any(note.startswith("caches grow: each of 146 samples meets") for note in result.notes)


@pytest.mark.parametrize(("name", "sizes"), [("list_of_steps", {23}), ("growing_state", {21, 23})])
def test_what_no_iteration_can_show_is_left_alone(name: str, sizes: set[int]) -> None:
    """Lists, and tensors that grow from one iteration to the next; what is beside them is cut."""
    proto, arrays = getattr(exported, name)()
    result = onnxmi.prune(proto, arrays, keep=0.5, force=True, **SETTINGS)
    assert {choice.size for choice in result.plan.choices} == sizes
    assert all(check.passed and "not applicable" not in check.detail for check in result.checks)
    assert result.damage.total < 0.2
