"""Quantised operators: scales and zero points go with the channels, and a cut channel is the zero point."""

import numpy as np
import pytest

from tests.support.build import Build
from tests.support.oracle import Case, assert_exact, cut_all

IN, HIDDEN, OUT = 7, 11, 5


def byte(b: Build, *shape: int, signed: bool = True) -> str:
    low, kind = (-127, np.int8) if signed else (0, np.uint8)
    return b.const(b.rng.integers(low, 127, size=shape).astype(kind))


def check(case: Case) -> None:
    assert case.sizes == [HIDDEN]
    assert_exact(case, cut_all(case, drop=4), tolerance=1e-2)  # the last bit of 8 may round the other way


@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_behind_dequantize_linear(per_channel: bool) -> None:
    b = Build()
    count = HIDDEN if per_channel else 1
    scale = b.const(b.rng.uniform(0.001, 0.01, size=count if per_channel else ()))
    zero = b.const(np.zeros(count if per_channel else (), np.int8))
    weight = b.op("DequantizeLinear", byte(b, IN, HIDDEN), scale, zero, axis=1)
    hidden = b.op("Relu", b.op("MatMul", b.input("N", IN), weight))
    case = Case.of(b.proto(b.gemm(hidden, HIDDEN, OUT)))
    assert case.sizes == [HIDDEN]
    assert_exact(case, cut_all(case))


def test_activations_between_quantize_and_dequantize() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", IN), IN, HIDDEN)
    scale, zero = b.const(0.02), b.const(np.array(117, np.uint8))
    hidden = b.op("DequantizeLinear", b.op("QuantizeLinear", hidden, scale, zero), scale, zero)
    check(Case.of(b.proto(b.gemm(hidden, HIDDEN, OUT))))


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantisation(per_channel: bool) -> None:
    b = Build()
    hidden = b.gemm(b.input("N", IN), IN, HIDDEN)
    value, scale, zero = b.op("DynamicQuantizeLinear", hidden, outputs=3)
    zeros = b.const(np.full(OUT if per_channel else (), 3, np.int8))
    product = b.op("Cast", b.op("MatMulInteger", value, byte(b, HIDDEN, OUT), zero, zeros), to=1)
    check(Case.of(b.proto(b.op("Mul", product, b.op("Mul", scale, b.const(0.02))))))


def test_integers_whose_scale_is_not_found_are_left_alone() -> None:
    b = Build()
    hidden = b.gemm(b.input("N", IN), IN, HIDDEN)
    value, scale, zero = b.op("DynamicQuantizeLinear", hidden, outputs=3)
    product = b.op("MatMulInteger", value, byte(b, HIDDEN, OUT), zero, b.const(np.array(0, np.int8)))
    case = Case.of(b.proto(b.op("Neg", b.op("Mul", b.op("Cast", product, to=1), scale))))
    assert case.sizes == []
    assert "the scale of the weight of n_matmulinteger" in case.reasons


def test_a_quantised_product_masks_with_its_zero_point() -> None:
    b = Build()
    scale, zero = b.const(0.02), b.const(np.array(117, np.uint8))
    source = b.op("QuantizeLinear", b.input("N", IN), scale, zero)
    small, none = b.const(0.01), b.const(np.array(0, np.int8))
    hidden = b.op("QLinearMatMul", source, scale, zero, byte(b, IN, HIDDEN), small, none, b.const(0.3), zero)
    made = b.op("QLinearMatMul", hidden, b.const(0.3), zero, byte(b, HIDDEN, OUT), small, none, b.const(1.0), zero)
    check(Case.of(b.proto(b.op("DequantizeLinear", made, b.const(1.0), zero))))


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantised_convolution(per_channel: bool) -> None:
    b = Build()
    scale, zero = b.const(0.02), b.const(np.array(117, np.uint8))
    source = b.op("QuantizeLinear", b.input("N", 3, 5, 7), scale, zero)

    def conv(x: str, c: int, o: int, coming: str, going: str) -> str:
        count = (o,) if per_channel else ()
        scales = b.const(np.full(count, 0.01))
        bias = b.const(b.rng.integers(-99, 99, size=o).astype(np.int32))
        return b.op(
            "QLinearConv",
            x,
            coming,
            zero,
            byte(b, o, c, 1, 1),
            scales,
            b.const(np.zeros(count, np.int8)),
            going,
            zero,
            bias,
        )

    middle, last = b.const(0.2), b.const(1.0)
    made = conv(conv(source, 3, HIDDEN, scale, middle), HIDDEN, OUT, middle, last)
    check(Case.of(b.proto(b.op("DequantizeLinear", made, last, zero))))


def test_a_product_of_packed_blocks_loses_whole_blocks() -> None:
    """Four bits a weight, 16 weights a block: the hidden layer is cut in units of 16."""
    b = Build()
    block, blocks = 16, 3
    hidden = b.op("Relu", b.gemm(b.input(3, IN), IN, block * blocks))
    packed = b.const(b.rng.integers(0, 255, size=(OUT, blocks, block // 2)).astype(np.uint8))
    scales = b.const(b.rng.uniform(0.01, 0.1, size=OUT * blocks))
    attrs = {"N": OUT, "K": block * blocks, "bits": 4, "block_size": block, "domain": "com.microsoft"}
    made = b.op("MatMulNBits", hidden, packed, scales, **attrs)
    case = Case.of(b.proto(made, dims=[(3, OUT)]))
    assert case.sizes == [blocks]
    assert_exact(case, cut_all(case), tolerance=1e-3)
