"""docs/adding_an_operator.md is true: its code, run step by step, makes an unknown operator cut, counted and scored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxmi.graph.cost import cost
from onnxmi.graph.linear import find_linears
from onnxmi.operators import registry
from onnxmi.operators.operator import Operator
from onnxmi.statistics.backward import Backward
from tests.support.build import Build
from tests.support.oracle import Case, assert_prunes

KEY = ("com.microsoft", "FusedMatMul")
IN, HIDDEN, OUT = 7, 11, 5
PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding_an_operator.md"
STEPS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def records() -> list[Operator]:
    """The record after each step of the page."""
    names: dict[str, Any] = {}
    made = []
    for step in STEPS:
        exec(step, names)
        made.append(names["record"])
    return made


def model() -> Any:
    b = Build()
    hidden = b.op("FusedMatMul", b.input("N", IN), b.weight(IN, HIDDEN), domain=KEY[0], alpha=0.5)
    result = b.op("FusedMatMul", b.op("Relu", hidden), b.weight(HIDDEN, OUT), domain=KEY[0])
    return b.proto(result, dims=[("N", OUT)])


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Any:
    known = {key: record for key, record in registry.OPERATORS.items() if key != KEY}
    monkeypatch.setattr(registry, "OPERATORS", known)
    return lambda record: monkeypatch.setattr(registry, "OPERATORS", {**known, KEY: record})


def macs(case: Case) -> int:
    return cost(case.model.proto, {"x": np.zeros((1, IN), np.float32)}).macs


def test_without_a_record_nothing_is_cut_or_counted(register: Any) -> None:
    case = Case.of(model())
    assert case.sizes == []
    assert macs(case) == 0


def test_with_an_axis_rule_it_is_cut(register: Any) -> None:
    register(records()[0])
    assert_prunes(model(), HIDDEN)
    assert macs(Case.of(model())) == 0
    assert not find_linears(Case.of(model()).model.graph, Case.of(model()).graph)


def test_with_macs_it_is_counted(register: Any) -> None:
    register(records()[1])
    assert macs(Case.of(model())) == IN * HIDDEN + HIDDEN * OUT


def test_with_a_layout_it_is_scored_and_repaired(register: Any) -> None:
    register(records()[2])
    case = Case.of(model())
    first, second = find_linears(case.model.graph, case.graph)
    assert (first.outputs.size, second.features) == (HIDDEN, HIDDEN)
    assert first.alpha == 0.5
    assert first.obstacle is None
    assert not Backward(case.model.graph, frozenset({first.ends[0].outputs[0]})).reached


def test_with_a_gradient_the_backward_pass_goes_through_it(register: Any) -> None:
    register(records()[3])
    case = Case.of(model())
    name = find_linears(case.model.graph, case.graph)[0].ends[0].outputs[0]
    backward = Backward(case.model.graph, frozenset({name}))
    assert backward.reached == {name}
    result = case.model.graph.outputs[0].name
    gradient = backward(
        {tensor: np.ones((2, HIDDEN if tensor != result else OUT), np.float32) for tensor in backward.reads},
        {result: np.ones((2, OUT), np.float32)},
    )[name]
    weight = case.model.graph.constant(case.model.graph.nodes[-1].inputs[1])
    np.testing.assert_allclose(gradient, np.ones((2, OUT)) @ weight.T, rtol=1e-5)


def test_the_page_names_fields_that_the_record_has() -> None:
    fields = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(fields) > 5
    assert {*fields} <= Operator.__dataclass_fields__.keys()
