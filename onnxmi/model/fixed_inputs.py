"""Branches whose condition is known: one that is always taken takes the place of its If.

Known is what an input is fixed to; it stays in the interface, and what is fed to it is not read any more. Known is also
what the declared shapes of the inputs decide (`onnxmi.model.conditions`), and what has to hold for a run to succeed
(`onnxmi.model.impossible_branches`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from onnxmi.errors import UsageError
from onnxmi.model.bodies import is_normal, nested_nodes
from onnxmi.model.conditions import Conditions
from onnxmi.model.graph import TensorInfo
from onnxmi.model.impossible_branches import forced_conditions
from onnxmi.model.inline_branches import inline_branches, remove_unused
from onnxmi.typing import Array

_TRUTH = {"true": 1, "false": 0}


def read_fixed(texts: Sequence[str], inputs: Sequence[TensorInfo]) -> dict[str, Array]:
    """Read what inputs are fixed to, such as ``sr=16000``.

    Returns
    -------
    dict
        Input -> its value, of its type and shape; axes without a declared size have size one.

    Raises
    ------
    UsageError
        If an input does not exist, or a value does not fit.
    """
    known = {info.name: info for info in inputs}
    fixed: dict[str, Array] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(f"--fix {text}: expected NAME=VALUE, such as sr=16000")
        info = known.get(name)
        if info is None:
            raise UsageError(f"--fix {name}: the model has no input {name!r}; it has {', '.join(known)}")
        if info.dtype is None or info.dims is None:
            raise UsageError(f"--fix {name}: the model does not say of what type and shape {name!r} is")
        try:
            number = np.array(_TRUTH.get(value.lower(), value)).astype(np.float64)
        except ValueError as error:
            raise UsageError(f"--fix {name}: {value!r} is not a number") from error
        cast = number.astype(info.dtype)
        if float(cast) != float(number):
            raise UsageError(f"--fix {name}: {value} does not fit into {info.dtype}")
        fixed[name] = np.full([dim if isinstance(dim, int) and dim > 0 else 1 for dim in info.dims], cast)
    return fixed


def with_fixed_inputs(proto: onnx.ModelProto, fixed: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a model with inputs fixed, and without the branches that are never taken then.

    It is the model itself where no input is fixed and no branch is left out.

    Raises
    ------
    UsageError
        If inputs are fixed and the model has bodies that cannot be brought into the normal form.
    """
    if not is_normal(proto):
        if fixed:
            raise UsageError("--fix: the model has bodies that are not looked into")
        return proto
    if not fixed and all(node.op_type != "If" for node in nested_nodes(proto.graph)):
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for name, value in fixed.items():
        stored = f"{name}.fixed"
        made.graph.initializer.append(numpy_helper.from_array(value, stored))
        for node in nested_nodes(made.graph):
            node.input[:] = [stored if read == name else read for read in node.input]
    decided = _leave_out(made, {})
    decided |= _leave_out(made, forced_conditions(made))
    if not fixed and not decided:
        return proto
    remove_unused(made.graph)
    return made


def _leave_out(proto: onnx.ModelProto, forced: Mapping[str, bool]) -> bool:
    """Put branches that are always taken in the place of their If; return whether there were any."""
    changed = False
    while inline_branches(proto.graph, Conditions(proto, forced)):  # an inlined branch tells more ranks
        changed = True
    return changed
