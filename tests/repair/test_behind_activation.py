"""Regression on what an activation lets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmi.repair.activation import Activation, find_activation
from onnxmi.repair.behind_activation import ROWS, ActivatedRows, refine
from tests.support.build import Build
from tests.support.oracle import Case

RELU = Activation.rectifier()


def activation(name: str) -> Activation:
    if name == "Relu":
        return RELU
    b = Build(opset=20)
    x = b.conv(b.input("N", 3, 5, 7), 3, 11)
    made = SPELLINGS[name](b, x)
    case = Case.of(b.proto(b.conv(made, 11, 5)))
    found = find_activation(case.model, x)
    assert found is not None
    return found


def gelu(b: Build, x: str) -> str:
    erf = b.op("Erf", b.op("Div", x, b.const(np.sqrt(2.0))))
    return b.op("Mul", b.op("Mul", x, b.op("Add", erf, b.const(1.0))), b.const(0.5))


SPELLINGS = {
    "LeakyRelu": lambda b, x: b.op("LeakyRelu", x, alpha=0.1),
    "Abs": lambda b, x: b.op("Abs", x),
    "Sigmoid": lambda b, x: b.op("Sigmoid", x),
    "SiLU": lambda b, x: b.op("Mul", x, b.op("Sigmoid", x)),
    "Gelu": gelu,
    "Gelu of one node": lambda b, x: b.op("Gelu", x),
    "Hardswish": lambda b, x: b.op(
        "Div", b.op("Mul", x, b.op("Clip", b.op("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))), b.const(6.0)
    ),
}
FORMULAS = {
    "LeakyRelu": lambda x: np.where(x < 0, 0.1 * x, x),
    "Abs": np.abs,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "Hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_activations_are_found_by_what_they_do(name: str) -> None:
    found = activation(name)
    x = np.random.default_rng(0).normal(scale=4, size=(13, 7)).astype(np.float32)
    if name in FORMULAS:
        np.testing.assert_allclose(found.values(x), FORMULAS[name](x.astype(np.float64)), rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_allclose(found.values(x), activation("Gelu").values(x), rtol=1e-4, atol=1e-5)
    assert found.steepest == pytest.approx({"Sigmoid": 0.25, "SiLU": 1.1, "Hardswish": 1.5}.get(name, 1.0), abs=0.13)


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Mul", x, b.const(3.0)),  # a straight line
        lambda b, x: b.op("Mul", b.op("Relu", x), b.const(np.arange(11.0).reshape(11, 1, 1))),  # ends behind the Relu
        lambda b, x: b.op("Exp", x),  # bounds nothing
        lambda b, x: b.op("Softmax", x, axis=1),  # entries of one row depend on each other
        lambda b, x: b.op("Add", b.op("Relu", x), b.op("MaxPool", x, kernel_shape=[1, 1])),
        lambda b, x: b.op("Cast", b.op("Greater", x, b.const(0.0)), to=1),
    ],
    ids=["line", "relu", "exp", "softmax", "read elsewhere", "step"],
)
def test_what_is_no_activation(make, request) -> None:
    b = Build(opset=20)
    x = b.conv(b.input("N", 3, 5, 7), 3, 11)
    case = Case.of(b.proto(b.conv(make(b, x), 11, 5)))
    assert (find_activation(case.model, x) is not None) == (request.node.callspec.id == "relu")


def test_a_result_that_the_caller_reads_has_no_activation() -> None:
    b = Build()
    x = b.conv(b.input("N", 3, 5, 7), 3, 11)
    case = Case.of(b.proto(b.conv(b.op("Relu", x), 11, 5), x))
    assert find_activation(case.model, x) is None


def rows(seed: int, name: str = "Relu", scale: float = 1.0, count: int = 211) -> ActivatedRows:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    targets = (np.tanh(rng.normal(size=(count, 7))) + inputs @ rng.normal(size=(5, 7))).astype(np.float32)
    level = np.full((1, 7), -0.3, np.float32)
    return ActivatedRows(inputs, targets, np.full(7, scale, np.float32), level, activation(name))


def start(of: ActivatedRows) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.concatenate([of.inputs, np.ones((len(of.inputs), 1), np.float32)], axis=1).astype(np.float64)
    solution = np.linalg.lstsq(inputs, of.targets.astype(np.float64), rcond=None)[0]
    return solution[:-1], solution[-1]


@settings(deadline=None)
@given(st.integers(0, 50), st.sampled_from(["Relu", "SiLU", "Gelu", "Sigmoid"]), st.sampled_from([1.0, -0.7, 2.0]))
def test_refining_does_not_make_the_error_of_the_values_worse(seed: int, name: str, scale: float) -> None:
    made = rows(seed, name, scale)
    first = start(made)
    assert made.error(*refine(made, *first, ridge=1e-9)) <= made.error(*first) * (1 + 1e-3)


@pytest.mark.parametrize(("name", "left"), [("Relu", 0.96), ("SiLU", 0.96), ("Gelu", 0.96), ("Sigmoid", 0.99)])
def test_refining_helps_where_much_is_flat(name: str, left: float) -> None:
    made = rows(3, name)
    first = start(made)
    assert made.error(*refine(made, *first, ridge=1e-9)) < left * made.error(*first)


def test_nothing_is_asked_of_what_is_closed_and_all_of_what_is_open() -> None:
    made = rows(4)
    results = np.random.default_rng(9).normal(scale=0.1, size=made.targets.shape).astype(np.float32)
    nearer = made.nearer(results)
    closed, is_open = ((sign * made.arguments > 0) & (sign * (results - 0.3) > 0) for sign in (-1, 1))
    np.testing.assert_array_equal(nearer[closed], results[closed])
    np.testing.assert_allclose(nearer[is_open], made.targets[is_open], rtol=1e-3, atol=1e-3)


def test_many_rows_are_thinned() -> None:
    made = rows(5, count=3 * ROWS + 1)
    assert len(made.thinned().inputs) <= ROWS
    assert rows(5).thinned().inputs.shape == (211, 5)
