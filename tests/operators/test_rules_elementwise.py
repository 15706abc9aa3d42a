import numpy as np
import pytest

from onnxmi.operators import registry
from onnxmi.operators.registry import OPERATORS
from tests.support.build import Build, between_convs, between_gemms, between_matmuls
from tests.support.oracle import Case, assert_exact, assert_frozen, assert_prunes, cut_all

SMOOTH = ["Abs", "Atan", "Cos", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Neg", "Relu"]
SMOOTH += [
    "Selu",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
    "Ceil",
    "Floor",
    "Round",
    "Sign",
]


@pytest.mark.parametrize("op", SMOOTH)
def test_a_unary_operator_passes_its_axes_on(op: str) -> None:
    assert_prunes(between_gemms(lambda b, x: b.op(op, x)), 11)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"])
@pytest.mark.parametrize("shape", [(11, 1, 1), (1, 11, 1, 1), (1, 1, 1, 1), (), (1,), (5, 7), (7,)])
def test_a_constant_that_broadcasts_is_cut_where_it_has_channels(op: str, shape: tuple[int, ...]) -> None:
    def step(b: Build, x: str) -> str:
        constant = b.const(b.rng.uniform(1.0, 2.0, size=shape))
        return b.op(op, b.op("Sigmoid", x), constant)

    assert_prunes(between_convs(step), 11)


def test_the_constant_may_come_first() -> None:
    assert_prunes(between_gemms(lambda b, x: b.op("Sub", b.vector(11), x)), 11)


def test_channels_are_aligned_at_the_right() -> None:
    """In (n, tokens, channels) a vector is over the channels, and (5, 1) over the tokens."""
    assert_prunes(between_matmuls(lambda b, x: b.op("Add", b.op("Mul", x, b.vector(11)), b.weight(5, 1))), 11)


def test_two_activations_couple() -> None:
    b = Build()
    x = b.input("N", 7)
    gate = b.op("Mul", b.op("Sigmoid", b.gemm(x, 7, 11)), b.gemm(x, 7, 11))
    assert_prunes(b.proto(b.gemm(gate, 11, 5)), 11)


def test_an_axis_of_one_that_is_stretched_stays_free() -> None:
    """A gate of one channel on many."""
    b = Build()
    hidden = b.conv(b.input("N", 3, 5, 7), 3, 11)
    gate = b.conv(b.conv(hidden, 11, 13), 13, 1)
    assert_prunes(b.proto(b.conv(b.op("Mul", hidden, gate), 11, 7)), 11, 13)


def test_where_and_comparison() -> None:
    def step(b: Build, x: str) -> str:
        return b.op("Where", b.op("Greater", x, b.vector(11)), x, b.const(np.float32(0.25)))

    assert_prunes(between_gemms(step), 11)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max"])
def test_many_operands(op: str) -> None:
    b = Build()
    x = b.input("N", 7)
    joined = b.op(op, *(b.gemm(x, 7, 11) for _ in range(3)), b.vector(11))
    assert_prunes(b.proto(b.gemm(joined, 11, 5)), 11)


def test_clip_and_dropout_pass_their_first_operand_on() -> None:
    def step(b: Build, x: str) -> str:
        clipped = b.op("Clip", x, b.const(np.float32(-0.7)), b.const(np.float32(1.1)))
        return b.op("Dropout", clipped, b.const(np.float32(0.5)), b.const(np.bool_(False)))

    assert_prunes(between_gemms(step), 11)


def test_cast_there_and_back() -> None:
    assert_prunes(between_gemms(lambda b, x: b.op("Cast", b.op("Cast", x, to=11), to=1)), 11)


def test_a_vector_that_two_layers_read_ties_them_not() -> None:
    b = Build()
    shared = b.vector(11)
    hidden = b.op("Add", b.op("MatMul", b.input("N", 7), b.weight(7, 11)), shared)
    hidden = b.op("Add", b.op("MatMul", b.op("Relu", hidden), b.weight(11, 11)), shared)
    assert_prunes(b.proto(b.gemm(hidden, 11, 5)), 11, 11)


def test_a_matrix_that_two_layers_read_ties_them() -> None:
    """One type for one tensor: here all channels become one layer."""
    b = Build()
    shared = b.weight(11, 11)
    hidden = b.gemm(b.input("N", 7), 7, 11)
    hidden = b.op("MatMul", b.op("Sigmoid", b.op("MatMul", hidden, shared)), shared)
    assert_prunes(b.proto(b.gemm(hidden, 11, 5)), 11)


# -- what stays --


def test_an_operator_without_a_rule_freezes_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {key: rule for key, rule in OPERATORS.items() if key != ("", "Relu")}
    monkeypatch.setattr(registry, "OPERATORS", known)
    assert_frozen(
        between_gemms(lambda b, x: b.op("Relu", x, name="act")), "Relu act is an operator without a rule (Relu)"
    )


def test_an_operator_of_a_foreign_domain_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {key: rule for key, rule in OPERATORS.items() if key[0] == ""}
    monkeypatch.setattr(registry, "OPERATORS", known)
    proto = between_gemms(lambda b, x: b.op("QuickGelu", x, domain="com.microsoft", name="act"))
    assert_frozen(proto, "QuickGelu act is an operator without a rule (com.microsoft.QuickGelu)")


def test_what_an_unknown_operator_does_not_touch_is_still_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {key: rule for key, rule in OPERATORS.items() if key != ("", "Selu")}
    monkeypatch.setattr(registry, "OPERATORS", known)
    b = Build()
    hidden = b.op("Relu", b.gemm(b.input("N", 7), 7, 13))
    case = Case.of(b.proto(b.gemm(b.op("Selu", b.gemm(hidden, 13, 11)), 11, 5)))
    assert case.sizes == [13]
    assert_exact(case, cut_all(case))
