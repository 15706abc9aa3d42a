"""Inputs that are fixed: the branch that is taken then takes the place of its If, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxmi
from onnxmi.errors import UsageError
from onnxmi.model import Model
from onnxmi.model.bodies import nested_nodes
from onnxmi.model.fixed_inputs import read_fixed, with_fixed_inputs
from onnxmi.runtime.session import open_session
from tests.support.bodies import branch
from tests.support.build import Build

SIZE = 7
SETTINGS = {"threads": 1, "latency": False, "force": True}


def detector() -> onnx.ModelProto:
    """A network for each sampling rate; inside, a branch that a rank decides, and one that a declared size decides."""
    b = Build(seed=5)
    x, rate = b.input("N", SIZE), b.input(name="rate", dtype=np.int64)

    def one(units: int) -> str:
        hidden = b.op("Relu", b.gemm(x, SIZE, units))
        rank = b.op("Size", b.op("Shape", hidden))
        flat = branch(
            b,
            b.op("Equal", rank, b.const(np.array(2))),
            lambda: b.op("Identity", hidden),
            lambda: b.op("Unsqueeze", hidden, b.ints(2)),
        )
        width = b.op("Gather", b.op("Shape", x), b.const(np.array(1)), axis=0)
        last = branch(
            b,
            b.op("Not", b.op("Equal", width, b.const(np.array(SIZE)))),
            lambda: b.gemm(flat, units, 3),
            lambda: b.op("Tanh", b.gemm(flat, units, 3)),
        )
        return b.op("Identity", last)

    y = branch(b, b.op("Equal", rate, b.const(np.array(16_000))), lambda: one(29), lambda: one(31))
    return b.proto(y, dims=[("N", 3)])


def samples(count: int = 101) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(count, SIZE)).astype(np.float32)
    return {"x": x, "rate": np.array(16_000)}


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_the_branch_that_is_taken_is_what_is_left(rate: int) -> None:
    model = Model.of(detector())
    made = with_fixed_inputs(model.proto, read_fixed([f"rate={rate}"], model.graph.inputs))
    onnx.checker.check_model(made, full_check=True)
    assert not [node for node in nested_nodes(made.graph) if node.op_type == "If"]
    assert made.graph.input == model.proto.graph.input
    stored = {tensor.dims[0] for tensor in made.graph.initializer if len(tensor.dims) == 2}
    assert (29 if rate == 16_000 else 31) in stored
    assert (31 if rate == 16_000 else 29) not in stored
    feeds = {**samples(5), "rate": np.array(rate)}
    before, after = (open_session(proto, optimise=False).run(feeds) for proto in (model.proto, made))
    np.testing.assert_allclose(*before.values(), *after.values(), rtol=1e-6)


def test_a_condition_that_samples_decide_stays() -> None:
    b = Build()
    x, flag = b.input("N", SIZE), b.input(1, name="flag", dtype=np.bool_)
    above = b.op("Greater", b.op("ReduceSum", x, keepdims=0), b.const(np.array(0.0)))
    inner = branch(b, above, lambda: b.op("Neg", x), lambda: b.op("Exp", x))
    model = Model.of(b.proto(branch(b, flag, lambda: b.op("Abs", inner), lambda: b.op("Sin", inner))))
    made = with_fixed_inputs(model.proto, read_fixed(["flag=true"], model.graph.inputs))
    assert [node.op_type for node in nested_nodes(made.graph) if node.op_type in ("If", "Abs", "Sin")] == ["If", "Abs"]


def test_branches_that_declared_shapes_rule_out_are_left_out_of_every_model() -> None:
    found = onnxmi.inspect(detector())
    assert sorted(layer.size for layer in found.layers) == [29, 31]
    result = onnxmi.prune(detector(), samples(), keep=0.5, **SETTINGS)
    assert [node.op_type for node in nested_nodes(result.model.graph)].count("If") == 1
    note = "4 conditions are always the same: branches that are never taken were left out"
    assert note in result.notes
    assert note in " ".join(str(found).split())
    for rate in (8_000, 16_000):
        feeds = {**samples(5), "rate": np.array(rate)}
        (before,) = open_session(detector()).run(feeds).values()
        (after,) = open_session(with_fixed_inputs(Model.of(detector()).proto, {})).run(feeds).values()
        np.testing.assert_allclose(before, after, rtol=1e-6)


def test_what_a_file_claims_of_inner_shapes_rules_nothing_out() -> None:
    b = Build()
    x = b.input("N", SIZE)
    chosen = b.op("Compress", x, b.op("Greater", b.op("ReduceSum", x, b.ints(1), keepdims=0), b.const(0.0)), axis=0)
    condition = b.op("Equal", b.op("Gather", b.op("Shape", chosen), b.const(np.array(0)), axis=0), b.const(np.array(3)))
    inner = branch(b, condition, lambda: b.op("Neg", chosen), lambda: b.op("Exp", chosen))
    proto = b.proto(inner, dims=[("M", SIZE)])
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info(chosen, onnx.TensorProto.FLOAT, [3, SIZE]))
    model = Model.of(proto)
    assert with_fixed_inputs(model.proto, {}) is model.proto


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate", "expected NAME=VALUE"),
        ("speed=3", "has no input 'speed'; it has x, rate"),
        ("rate=fast", "'fast' is not a number"),
        ("rate=1.5", "1.5 does not fit into int64"),
    ],
)
def test_what_cannot_be_fixed_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_fixed([text], Model.of(detector()).graph.inputs)


def test_a_whole_run_and_its_plan(tmp_path: Path) -> None:
    result = onnxmi.prune(detector(), samples(), keep=0.5, fix="rate=16000", **SETTINGS)
    assert [choice.size for choice in result.plan.choices] == [29]
    assert not [node for node in result.model.graph.node if node.op_type == "If"]
    assert "equals the source before anything is cut" in {check.name for check in result.checks}
    applied = onnxmi.apply(
        detector(), next(path for path in result.save(tmp_path / "small.onnx") if "plan" in path.name)
    )
    assert not [node for node in applied.model.graph.node if node.op_type == "If"]


def test_samples_with_another_value_are_refused() -> None:
    with pytest.raises(UsageError, match="--fix rate=8000: the samples hold 16000"):
        onnxmi.prune(detector(), samples(), keep=0.5, fix="rate=8000", **SETTINGS)


def test_inspect_shows_the_branch_that_is_left() -> None:
    found = onnxmi.inspect(detector(), fix=["rate=16000"])
    assert [layer.size for layer in found.layers] == [29]
