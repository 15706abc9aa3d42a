"""Steps from one model to the next, as from a float model to its pruned and its quantized version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from onnxmi.errors import DataError
from onnxmi.graph.plan import Plan, load_plan, plan_path
from onnxmi.model import Model
from onnxmi.pruning.apply_plan import apply
from onnxmi.runtime.synthetic import NO_SIZES, GivenSizes

_NAMED = 0.02  # of the bytes, from which on a type of stored numbers is named
_SMALL = 64  # elements of a stored tensor, at most which it is a size or a scale and no weight


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model of a benchmark, and what it is called there."""

    name: str
    model: Model


def with_float_steps(models: Sequence[NamedModel], sizes: GivenSizes = NO_SIZES) -> Iterator[NamedModel]:
    """Yield models, and before a quantized one the float model that was quantized, as the plan beside it says.

    That is cut as the plan says and not repaired: it is as large and as fast as the repaired one. It is left out where
    a model other than the first is before it already: then the steps are given.

    Parameters
    ----------
    models : sequence of NamedModel
        The first is what the plans are for.
    sizes : GivenSizes
        Of inputs, to run the first one with.
    """
    for place, named in enumerate(models):
        plan = _plan_beside(named.model) if place == 1 else None
        if plan is not None and plan.quantization is not None and plan.digest == models[0].model.digest:
            cut = apply(models[0].model, replace(plan, quantization=None), sizes)
            yield NamedModel(f"{named.name}, before it was quantized", Model.of(cut.proto))
        yield named


def _plan_beside(model: Model) -> Plan | None:
    """Return the plan of a result; None where there is none that can be read."""
    if model.path is None or not plan_path(model.path).exists():
        return None
    try:
        return load_plan(plan_path(model.path))
    except DataError:
        return None


def stored_types(model: Model) -> str:
    """Say what numbers a model is stored as, by their shares of the bytes: "int8 97 %"."""
    graph, sizes = model.graph, Counter[str]()
    for name in graph.constants:
        dtype, count = graph.constant_dtype(name), prod(graph.constant_shape(name))
        if count > _SMALL:
            sizes[dtype.name] += count * np.dtype(dtype).itemsize
    total = sum(sizes.values())
    named = [f"{name} {size / total:.0%}" for name, size in sizes.most_common() if size >= _NAMED * total]
    return ", ".join(named)
