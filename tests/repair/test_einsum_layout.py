"""Einsum with a stored weight: its letters say what is a row, a group, an input and an output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxmi.axes.keeping import Keeping
from onnxmi.data.sources import as_calibration
from onnxmi.graph.linear import feature_rows, find_linears, output_rows, row_count, weight_array, weights_of
from onnxmi.repair import StepOptions, repair_one_pass
from onnxmi.runtime.session import open_session
from onnxmi.statistics.capture import CaptureOptions
from onnxmi.statistics.output_sensitivity import measure_sensitivities
from onnxmi.statistics.shared_inputs import find_linear_inputs
from onnxmi.transforms.analysis import analyze
from tests.repair.conftest import Bench
from tests.support.build import Build
from tests.support.measure import yardstick_of
from tests.support.oracle import Case

# equation -> sizes of the weight, what the activation's last axes are made into, and whether a bias is a vector
EQUATIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    "nsd,df->nsf": ((13, 3), (13,), True),
    "nsd,fd->nsf": ((3, 13), (13,), True),
    "df,nsd->nsf": ((13, 3), (13,), True),
    "nsd,df->nfs": ((13, 3), (13,), False),
    "nsd,edf->nsef": ((2, 13, 3), (13,), False),
    "nsed,edf->nsef": ((2, 13, 3), (2, 13), False),
    "nsed,edf->nsf": ((2, 13, 3), (2, 13), True),
    "nsd,edf->nesf": ((2, 13, 3), (13,), False),
    "nsed,edf->sfne": ((2, 13, 3), (2, 13), False),
}


def model(equation: str) -> onnx.ModelProto:
    shape, given, _ = EQUATIONS[equation]
    b = Build(seed=7)
    count = int(np.prod(given))
    x = b.op("Relu", b.dense(b.input("N", 5, 7), 7, count))
    x = b.reshape(x, 0, 0, *given) if len(given) > 1 else x
    weight = b.weight(*shape, fan_in=13)
    first = equation.startswith("df")
    return b.proto(b.op("Einsum", *((weight, x) if first else (x, weight)), equation=equation))


@pytest.mark.parametrize("equation", EQUATIONS)
def test_rows_times_weights_are_the_result(equation: str) -> None:
    case = Case.of(model(equation))
    linear = find_linears(case.model.graph, case.graph)[-1]
    values = open_session(case.model.proto, taps=[linear.taps[0], linear.key], optimise=False).run(case.feeds())
    activation, result = values[linear.taps[0]], values[linear.key]
    matrix = weights_of(case.model, linear)
    row_indices = np.arange(row_count(linear, activation))
    made = feature_rows(linear, activation, row_indices) @ matrix
    np.testing.assert_allclose(output_rows(linear, result, row_indices, linear.groups), made, rtol=1e-4, atol=1e-5)
    stored = case.model.graph.constant(linear.weight_name)
    np.testing.assert_allclose(weight_array(linear, matrix, stored.shape), stored, rtol=1e-6)
    assert linear.obstacle is None
    assert linear.holds_bias == EQUATIONS[equation][2]
    assert linear.kept_outputs(Keeping()).shape == (linear.groups, matrix.shape[2])
    assert linear.feature_units(-5).shape == matrix.shape[:2]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_it_is_repaired(equation: str, bench: type[Bench]) -> None:
    scene = bench(model(equation))
    keeping = scene.keep()
    one_pass = repair_one_pass(scene.cut(keeping), scene.statistics())
    made = scene.stepwise(keeping, StepOptions(everywhere=False)) if EQUATIONS[equation][2] else one_pass
    assert [note.used for note in made.notes] == [True]
    assert all(np.any(own.shift) == EQUATIONS[equation][2] for own in made.replacements)
    assert scene.error(keeping, made.replacements) < 0.8 * scene.error(keeping)


@pytest.mark.parametrize("equation", ["nsd,dd->nsd", "nsd,df->ns", "nsd,sd->nsd", "...d,df->...f"])
def test_other_equations_are_not_seen(equation: str) -> None:
    """A diagonal, a weight that is summed up alone, nothing that is summed over, and unnamed axes."""
    b = Build(seed=7)
    x = b.op("Relu", b.dense(b.input("N", 5, 7), 7, 13))
    shape = {"dd": (13, 13), "sd": (5, 13)}.get(equation.partition(",")[2].partition("->")[0], (13, 3))
    made = b.op("Einsum", x, b.weight(*shape), equation=equation)
    case = Case.of(b.proto(made))
    assert len(find_linears(case.model.graph, case.graph)) == 1


def heads(einsum: bool) -> onnx.ModelProto:
    """A projection to heads, by Einsum or by MatMul and Reshape, and back."""
    b = Build(seed=7)
    x = b.op("Relu", b.dense(b.input("N", 5, 7), 7, 13))
    weight = b.weight(13, 2, 3)
    if einsum:
        made = b.op("Einsum", x, weight, equation="nsd,dhk->nshk")
    else:
        flat = b.const(b.initializers[weight].reshape(13, 6))
        made = b.reshape(b.op("MatMul", x, flat), 0, 0, 2, 3)
    return b.proto(b.dense(b.reshape(b.op("Tanh", made), 0, 0, 6), 6, 3))


def test_the_outputs_mind_it_as_they_do_the_same_product() -> None:
    x = {"x": np.random.default_rng(2).normal(size=(29, 5, 7)).astype(np.float32)}
    found = []
    for einsum in (True, False):
        analysis = analyze(heads(einsum))
        data = as_calibration(x, analysis.model)
        felt = measure_sensitivities(
            analysis,
            data,
            np.arange(29),
            yardstick_of(analysis, data),
            CaptureOptions(threads=1),
        )
        found.append(felt[analysis.linears[1].key].total)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6 * np.abs(found[1]).max())


def test_readings_of_one_activation_in_another_order_are_measured_apart() -> None:
    """Rows of the last axis, and groups of positions: the features of one are none of the other's."""
    b = Build(seed=7)
    x = b.op("Relu", b.dense(b.input("N", 5, 7), 7, 13))
    rows = b.op("Add", b.op("Einsum", x, b.weight(13, 3), equation="nsd,df->nsf"), b.op("MatMul", x, b.weight(13, 3)))
    whole = b.op("Einsum", x, b.weight(5, 13, 3), equation="nsd,sdf->nf")
    case = Case.of(b.proto(b.op("Add", rows, b.op("Unsqueeze", whole, b.ints(1)))))
    sources = find_linear_inputs(find_linears(case.model.graph, case.graph)[1:], {})
    assert [len(source.linears) for source in sources] == [2, 1]
