"""Models that decide: rounding may change what they choose, so they are compared where they choose."""

import numpy as np

from onnxmi.model import Model
from onnxmi.verification.checks import check_equivalence, check_shapes
from onnxmi.verification.discontinuities import find_discontinuities
from tests.support.build import Build
from tests.support.oracle import Case, cut_all


def ranked() -> Case:
    """Scores that all tie but for rounding, and the best three of them."""
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input(3, 7), 7, 11))
    column = b.rng.normal(size=(1, 11)).repeat(13, axis=0)
    scores = b.op("Gemm", hidden, b.const(column), transB=1)
    values, places = b.op("TopK", scores, b.ints(3), outputs=2)
    b.nodes[-1].name = "best"
    return Case.of(b.proto(values, b.op("Cast", places, to=1)))


def test_a_choice_is_compared_by_its_grounds() -> None:
    case = ranked()
    found = find_discontinuities(case.model.graph)
    assert found.inputs == (case.model.graph.nodes[-2].inputs[0],)
    assert set(found.dependents) == {*case.model.graph.nodes[-2].outputs, *case.model.graph.nodes[-1].outputs}
    keeping = cut_all(case)
    cut = case.cut(keeping)
    assert check_equivalence(case.model, case.graph, case.probe, keeping, cut, [case.feeds()]).passed
    assert check_shapes(case.graph, case.probe, keeping, cut, case.probe.feeds).passed


def test_a_wrong_cut_before_a_choice_is_seen() -> None:
    case = ranked()
    keeping = cut_all(case)
    wrong = case.cut(keeping)
    weight = next(t for t in wrong.graph.initializer if list(t.dims) == [13, 10])
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 1.5).astype(np.float32).tobytes()
    assert not check_equivalence(case.model, case.graph, case.probe, keeping, wrong, [case.feeds()]).passed


def test_a_number_of_positions_that_depends_on_the_data() -> None:
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input(3, 7), 7, 11))
    scores = b.gemm(hidden, 11, 13)
    chosen = b.op("NonZero", b.op("Greater", scores, b.const(0.0)))
    case = Case(Model.of(b.proto(b.op("Cast", chosen, to=1))))
    keeping = cut_all(case, drop=6)
    assert check_shapes(case.graph, case.probe, keeping, case.cut(keeping), case.probe.feeds).passed
