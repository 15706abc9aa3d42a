"""Whether two models give the same: how far their outputs are apart, and how far rounding lets them be.

Sums in another order differ in their last bits. Where activations are rounded to integers, such a bit may move a number
by a whole step of its scale, and everything after it. Quantized models are therefore compared twice: without rounding,
as closely as float models, and with it, where they may be apart by a small multiple of what rounding does to the first.

Numbers that are left after larger ones cancel are nothing but such bits: a Sigmoid far below zero, which onnxruntime
computes to some 1e-7, or a network that a large cut has silenced. How uncertain they are is seen by running the first
model on inputs whose last bits are other ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from onnxmi.errors import ModelError
from onnxmi.model import Graph
from onnxmi.model.bodies import nested_nodes
from onnxmi.quantization.processor import saturates
from onnxmi.runtime.probe import Probe, run_types
from onnxmi.runtime.session import Feeds, Session, open_session
from onnxmi.typing import Array
from onnxmi.verification.unrounded import TensorType, Unrounded, rounds_activations, without_rounding

# Largest difference relative to the largest output: rounding in another order.
TOLERANCE: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}
STEPS = 3e-2  # the same where activations are rounded to 8 bits: a few steps of a scale
BITS = 2.0  # last bits that inputs are moved by, where it is asked how uncertain outputs are
AGAIN = 3.0  # times what rounding does to one of two models, at most, between both: each has a rounding of its own
# What multiplies integers themselves; numbers that were integers are multiplied as floats.
_PRODUCTS = frozenset(
    {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "ConvInteger"}
    | {"QLinearConv", "QLinearMatMul", "QGemm", "QAttention"}
)

Gauge = Callable[[Array], float]
"""Makes one number of the differences of a tensor."""


@dataclass(frozen=True)
class Difference:
    """The largest relative difference of some outputs, and what is allowed."""

    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is allowed."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"largest relative difference {self.error:.1e} (allowed {self.allowed:.0e})"


@dataclass(frozen=True, eq=False)
class ModelPair:
    """Two models that ought to give the same.

    Attributes
    ----------
    expected, actual : onnx.ModelProto
        The reference and the other.
    probe : Probe
        Of the model that they come from: its types, and inputs that both run on.
    feeds : sequence of sequences of Feeds
        Inputs to compare on; the first of them that the reference runs on count.
    """

    expected: onnx.ModelProto
    actual: onnx.ModelProto
    probe: Probe
    feeds: Sequence[Sequence[Feeds]]

    def of(self, names: Sequence[str]) -> Difference | None:
        """Compare some tensors; None if the reference runs on no inputs."""
        floor = max((TOLERANCE.get(str(dtype), 0.0) for dtype in set(self.probe.dtypes.values())), default=0.0)
        if not rounds_activations(self.expected):
            found = _compare(self.expected, self.actual, names, self.feeds, floor)
            return found if found is None or found.passed else self._within_last_bits(names, found)
        real = [_unrounded(proto, self.probe.feeds) for proto in (self.expected, self.actual)]
        wanted, got = real
        if wanted is None or got is None:
            return _compare(self.expected, self.actual, names, self.feeds, max(floor, STEPS))
        exact = wanted.complete and got.complete
        found = _compare(wanted.proto, got.proto, names, self.feeds, floor if exact else max(floor, STEPS))
        if found is None or not found.passed:
            return found
        least = max(floor, STEPS)
        rounded = self._rounded(names, wanted, got, least, _largest)
        if rounded is None or rounded.passed:
            return found
        # One sum that falls between two steps may move one number far: then what rounding does to all of them decides.
        typical = self._rounded(names, wanted, got, floor, _root_mean_square)
        return found if typical is not None and typical.passed else rounded

    def _rounded(
        self, names: Sequence[str], wanted: Unrounded, got: Unrounded, least: float, gauge: Gauge
    ) -> Difference | None:
        """Compare both with their rounding, by what rounding does to the first."""
        effects = [_compare(self.expected, wanted.proto, names, self.feeds, STEPS, wanted.real, gauge=gauge)]
        if _saturates(self.actual):  # which products a processor cuts off depends on their order
            effects.append(_compare(self.actual, got.proto, names, self.feeds, STEPS, got.real, gauge=gauge))
        limit = max(least, *(AGAIN * effect.error for effect in effects if effect is not None))
        return _compare(self.expected, self.actual, names, self.feeds, limit, wanted.real, gauge=gauge)

    def _within_last_bits(self, names: Sequence[str], found: Difference) -> Difference:
        """Allow a difference that the last bits of the inputs make to the reference itself, where that is small."""
        moved = [[{name: _other_bits(value) for name, value in feed.items()} for feed in feeds] for feeds in self.feeds]
        effect = _compare(self.expected, self.expected, names, self.feeds, STEPS, others=moved)
        if effect is None or not effect.passed:  # nothing could be told from what is as uncertain as that
            return found
        return replace(found, allowed=max(found.allowed, AGAIN * effect.error))


def _saturates(proto: onnx.ModelProto) -> bool:
    """Whether a model multiplies integers of 8 bits, and sums of such products are cut off on this processor."""
    return any(node.op_type in _PRODUCTS for node in nested_nodes(proto.graph)) and saturates()


def _largest(gap: Array) -> float:
    return float(gap.max(initial=0.0))


def _root_mean_square(gap: Array) -> float:
    return float(np.sqrt(np.square(gap).mean())) if gap.size else 0.0


def _other_bits(value: Array) -> Array:
    """Move each entry of floats by their last bits, some up and some down, always by the same."""
    if value.dtype.kind != "f":
        return value
    signs = np.random.default_rng(0).choice((-BITS, BITS), value.shape)
    return np.asarray(value * (1.0 + signs * np.finfo(value.dtype).eps), dtype=value.dtype)


def _unrounded(proto: onnx.ModelProto, feeds: Feeds) -> Unrounded | None:
    """Take the rounding out of a model; None where that cannot be done or run."""
    try:
        seen = {name: TensorType(dtype, shape) for name, (dtype, shape) in run_types(proto, feeds).items()}
        seen |= {name: TensorType(value.dtype, value.shape) for name, value in feeds.items()}
        graph = Graph(proto)
        seen |= {name: TensorType(graph.constant_dtype(name), graph.constant_shape(name)) for name in graph.constants}
        found = without_rounding(proto, seen)
        if found is not None:
            open_session(found.proto, optimise=False).run(feeds)
    except ModelError:
        return None
    return found


def _compare(
    wanted: onnx.ModelProto,
    got: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[Sequence[Feeds]],
    floor: float,
    integers: Collection[str] = (),
    others: Sequence[Sequence[Feeds]] | None = None,
    gauge: Gauge = _largest,
) -> Difference | None:
    """The difference closest to, or furthest beyond, what is allowed; on the first feeds that can be run.

    `integers` are tensors that are compared as numbers though they are integers. `others` are what the second model is
    fed, where that is not the same. `gauge` makes one number of the differences of a tensor.
    """
    reference, other = (open_session(proto, taps=names, optimise=False) for proto in (wanted, got))
    choices = zip(feeds, others or feeds, strict=True)
    runs = next((pairs for choice in choices if (pairs := list(_runs(reference, other, *choice)))), None)
    if runs is None:
        return None
    worst = Difference(0.0, np.inf)
    for ones, made in runs:
        for name in names:
            found = _difference(ones[name], made[name], floor, gauge, numbers=name in integers)
            if found.error - found.allowed >= worst.error - worst.allowed:
                worst = found
    return worst


def _runs(
    reference: Session, other: Session, feeds: Iterable[Feeds], others: Iterable[Feeds]
) -> Iterable[tuple[Feeds, Feeds]]:
    """Outputs of both, for every feed that the reference runs on.

    A mask on an axis that folds channels and samples together fits only as many samples as the probe had.
    """
    for feed, same in zip(feeds, others, strict=True):
        try:
            wanted = reference.run(feed)
        except ModelError:
            continue
        yield wanted, other.run(same)


def _difference(wanted: Any, got: Any, floor: float, gauge: Gauge, *, numbers: bool) -> Difference:
    """Difference relative to the largest magnitude; what are no numbers has to be equal."""
    if isinstance(wanted, list):
        return _of_parts(wanted, got, floor, gauge)
    if not isinstance(wanted, np.ndarray) or not (wanted.dtype.kind == "f" or numbers):
        return Difference(float(not np.array_equal(wanted, got)), 0.0)
    if wanted.shape != got.shape:
        return Difference(np.inf, 0.0)
    limit = max(TOLERANCE.get(str(wanted.dtype), TOLERANCE["float32"]), floor)
    with np.errstate(invalid="ignore"):
        gap = np.abs(wanted.astype(np.float64) - got.astype(np.float64))
    gap = np.where((wanted == got) | (np.isnan(wanted) & np.isnan(got)), 0.0, gap)
    finite = np.abs(wanted[np.isfinite(wanted)].astype(np.float64))
    scale = float(finite.max(initial=0.0)) or 1.0
    return Difference(gauge(gap) / scale, limit)


def _of_parts(wanted: Sequence[Any], got: Sequence[Any], floor: float, gauge: Gauge) -> Difference:
    """Of sequences: that of the part furthest beyond what is allowed. A map's values are in the order of its keys."""
    if len(wanted) != len(got):
        return Difference(np.inf, 0.0)
    parts = [
        _difference(
            np.array(list(one.values())), np.array([other.get(key) for key in one]), floor, gauge, numbers=False
        )
        if isinstance(one, dict)
        else _difference(one, other, floor, gauge, numbers=False)
        for one, other in zip(wanted, got, strict=True)
    ]
    return max(parts, key=lambda part: part.error - part.allowed, default=Difference(0.0, 0.0))
