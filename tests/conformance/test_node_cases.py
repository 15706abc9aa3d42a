"""ONNX's own node cases drive the oracle for every operator of the standard domain that has a rule.

Without ONNXMI_EXAMPLES a seeded sample of the cases is tried; with more than the default, all of them.
"""

from __future__ import annotations

import random

import pytest

from onnxmi.operators.elementwise import OPERATORS as ELEMENTWISE
from onnxmi.operators.registry import OPERATORS as RECORDS
from tests.conformance.examine import Outcome, examine, is_left_out
from tests.conformance.gaps import NO_LAYER, NOT_RUN
from tests.conformance.node_cases import EXPANDED, by_operator
from tests.support.settings import EXAMPLES

OPERATORS = sorted(op for (domain, op), record in RECORDS.items() if not domain and record.axes is not None)
EVERY = EXAMPLES > 60
CASES, FUNCTIONS, CHUNKS = 2, 3, 16  # cases of an operator; of each chunk of the written-out functions


def _sample(cases: list, count: int, seed: str) -> list:
    return cases if EVERY or len(cases) <= count else random.Random(seed).sample(cases, count)


def _examine_all(cases: list, elementwise: bool) -> Outcome:
    found = Outcome()
    for case in cases:
        found.add(examine(case, elementwise))
    return found


@pytest.mark.parametrize("operator", [op for op in OPERATORS if op not in NOT_RUN])
def test_cutting_around_an_operator_is_exact(operator: str) -> None:
    cases = _sample(by_operator()[operator], CASES, operator)
    found = _examine_all(cases, ("", operator) in ELEMENTWISE)
    assert not found.failures, "\n".join(found.failures)
    if EVERY and not all(is_left_out(case.name) for case in cases):
        assert found.ran, "no case runs: say so in NOT_RUN"
        assert (found.layers == 0) == (operator in NO_LAYER), f"{found.layers} layers"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_cutting_around_a_written_out_function_is_exact(chunk: int) -> None:
    cases = by_operator()[EXPANDED][chunk::CHUNKS]
    random.Random(str(chunk)).shuffle(cases)
    found = Outcome()
    for tried, case in enumerate(cases):  # some have nothing to cut; which are drawn depends on onnx's version
        if not EVERY and tried >= FUNCTIONS and found.layers:
            break
        found.add(examine(case, elementwise=False))
    assert not found.failures, "\n".join(found.failures)
    assert found.layers


def test_the_tables_name_operators_that_have_a_rule() -> None:
    assert set(NOT_RUN) | set(NO_LAYER) <= set(OPERATORS)
    assert not set(NOT_RUN) & set(NO_LAYER)
