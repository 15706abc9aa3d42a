"""Running a model step by step gives what running it at once gives."""

from __future__ import annotations

import numpy as np
import pytest

from onnxmi.runtime.session import open_session
from onnxmi.runtime.stepper import Stepper
from tests.support.build import Build


@pytest.mark.parametrize("by", ["sizes", "scales"])
def test_sizes_that_an_earlier_step_makes(by: str) -> None:
    """What a Resize reads beside its input is made before a step, and is an input of the next one."""
    b = Build()
    x = b.input("n", 3, 5, 7)
    sizes = b.op("Mul", b.op("Shape", x), b.ints(1, 1, 2, 2))
    made = sizes if by == "sizes" else b.op("Div", b.op("Cast", sizes, to=1), b.op("Cast", b.op("Shape", x), to=1))
    first = b.op("Relu", x)
    size_of = b.op("Mul", first, b.op("Cast", b.op("ReduceMax", made), to=1))
    operands = [size_of, "", "", made] if by == "sizes" else [size_of, "", made]
    proto = b.proto(b.op("Resize", *operands, mode="nearest"))
    rng = np.random.default_rng(0)
    batches = [{"x": rng.normal(size=(count, 3, 5, 7)).astype(np.float32)} for count in (2, 3)]
    steps = Stepper(proto, batches)
    for _ in steps.to([size_of]):
        pass
    output = proto.graph.output[0].name
    for feeds, seen in zip(batches, steps.to([output]), strict=True):
        np.testing.assert_array_equal(seen[output], open_session(proto).run(feeds)[output])
