import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxmi.axes.signature import OperandPattern, parse
from onnxmi.operators.registry import OPERATORS
from onnxmi.operators.signature_rule import SignatureRule


def letters(pattern: OperandPattern, rank: int) -> list[tuple[str, ...]] | None:
    axes = pattern.expand(rank)
    return None if axes is None else [axis.letters for axis in axes]


def test_a_convolution() -> None:
    signature = parse("n (g c) *s, (g o) c *k, (g o)? -> n (g o) *t")
    x, weight, bias = signature.inputs
    assert letters(x, 4) == [("n",), ("g", "c"), ("*s0",), ("*s1",)]
    assert letters(weight, 3) == [("g", "o"), ("c",), ("*k0",)]
    assert letters(bias, 1) == [("g", "o")]
    assert [operand.optional for operand in signature.inputs] == [False, False, True]
    assert letters(signature.outputs[0], 5) == [("n",), ("g", "o"), ("*t0",), ("*t1",), ("*t2",)]


def test_an_ellipsis_aligns_at_its_right_end() -> None:
    left, right = parse("... i k, ... k j -> ... i j").inputs
    assert letters(left, 4) == [("...1",), ("...0",), ("i",), ("k",)]
    assert letters(right, 3) == [("...0",), ("k",), ("j",)]
    assert letters(left, 2) == [("i",), ("k",)]


def test_a_star_counts_from_the_left() -> None:
    assert letters(parse("n *s -> n *s").inputs[0], 3) == [("n",), ("*s0",), ("*s1",)]


@pytest.mark.parametrize(
    ("text", "rank"), [("i k -> i", 1), ("i k -> i", 3), ("n c *s -> n c", 1), ("... i k -> i", 1)]
)
def test_a_rank_that_does_not_fit(text: str, rank: int) -> None:
    assert parse(text).inputs[0].expand(rank) is None


def test_an_operand_that_broadcasts() -> None:
    signature = parse("i k, j k, ~ -> i j")
    assert [operand.broadcasts for operand in signature.inputs] == [False, False, True]


def test_a_scalar_result() -> None:
    assert letters(parse("k, k ->").outputs[0], 0) == []


@pytest.mark.parametrize("text", ["i k, j! k -> i j", "n (g c -> n", "n c) -> n", "a - b -> a"])
def test_what_is_not_a_signature_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="not an operand signature"):
        parse(text)


def test_parsing_is_cached() -> None:
    assert parse("n c *s -> n c *t") is parse("n c *s -> n c *t")


@given(st.integers(0, 6))
def test_every_rule_of_the_package_parses(rank: int) -> None:
    for rule in (operator.axes for operator in OPERATORS.values()):
        if isinstance(rule, SignatureRule):
            signature = parse(rule.signature)
            for pattern in (*signature.inputs, *signature.outputs):
                axes = pattern.expand(rank)
                assert axes is None or len(axes) == rank or pattern.broadcasts


def test_the_letters_a_rule_speaks_of_stand_in_its_signature() -> None:
    """A misspelt letter would contract or freeze nothing, silently."""
    for key, rule in ((key, operator.axes) for key, operator in OPERATORS.items()):
        if isinstance(rule, SignatureRule):
            operands = (*parse(rule.signature).inputs, *parse(rule.signature).outputs)
            known = {letter for operand in operands for axis in operand.axes for letter in axis.letters}
            spoken = {*rule.contracts, *rule.normalises, *rule.freezes, *rule.sizes}
            assert spoken <= known, key
