"""How a float model is quantized: everything that onnxruntime's quantizer is told, as plain data for a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onnxmi.errors import PlanError

MODES = ("dynamic", "static", "weights")
HALF = "half"
"""The mode that is no quantization: numbers are stored as float16."""

RANGE_METHODS = ("minmax", "percentile", "entropy")
"""Of onnxruntime's calibrators: how the ranges of activations are found on samples."""

NEAREST, MOMENTS = "nearest", "moments"
ROUNDINGS = (NEAREST, MOMENTS)
"""How weights are rounded: each to its nearest step, or together, as the inputs' moments want it."""

Ranges = Mapping[str, tuple[float, float]]
"""Tensor -> the least and the greatest value that its integers stand for."""


@dataclass(frozen=True)
class Recipe:
    """How a float model becomes an 8-bit one.

    Attributes
    ----------
    mode : str
        "dynamic": weights are 8-bit, and activations are scaled while the model runs. "static": activations have fixed
        ranges. "weights": weights alone are stored in fewer bits, 4. `HALF`: all that is stored is float16, and nothing
        is quantized.
    int8 : tuple of str
        Operators whose products or tables are 8-bit, by name.
    left_float : tuple of str
        Those that could be, and stay float.
    per_channel : bool
        Whether each output column of a weight has its own scale.
    reduced_range : bool
        Whether weights take 7 of the 8 bits, so that sums of two products do not overflow 16 bits.
    calibration : str
        One of `RANGE_METHODS`; "" where the mode is dynamic.
    ranges : mapping
        Static ranges of activations; empty where the mode is dynamic, or until they are found.
    kept : tuple of str
        Inner tensors that the quantized model still has under their names, because they are compared.
    four_bit : tuple of str
        Operators whose weights or tables are 4-bit, by name.
    rounding : str
        One of `ROUNDINGS`.
    """

    mode: str
    int8: tuple[str, ...]
    left_float: tuple[str, ...] = ()
    per_channel: bool = True
    reduced_range: bool = False
    calibration: str = ""
    ranges: Ranges = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    four_bit: tuple[str, ...] = ()
    rounding: str = NEAREST

    @property
    def quantized(self) -> tuple[str, ...]:
        """Operators that do not stay float, by name."""
        return (*self.int8, *self.four_bit)

    def with_float(self, names: Collection[str]) -> Recipe:
        """Return the recipe that leaves some operators float."""
        return replace(
            self,
            int8=tuple(name for name in self.int8 if name not in names),
            four_bit=tuple(name for name in self.four_bit if name not in names),
            left_float=(*self.left_float, *names),
        )

    def with_4_bits(self, names: Collection[str]) -> Recipe:
        """Return the recipe that stores some of the 8-bit operators in 4 bits."""
        rest = tuple(name for name in self.int8 if name not in names)
        return replace(self, int8=rest, four_bit=(*self.four_bit, *names))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        ranges = {name: [float(low), float(high)] for name, (low, high) in sorted(self.ranges.items())}
        four_bit = {"four_bit": list(self.four_bit)} if self.four_bit else {}
        rounding = {} if self.rounding == NEAREST else {"rounding": self.rounding}
        return {
            "mode": self.mode,
            "int8": list(self.int8),
            "float": list(self.left_float),
            "per_channel": self.per_channel,
            "reduced_range": self.reduced_range,
            "calibration": self.calibration,
            "ranges": ranges,
            "kept": list(self.kept),
            **four_bit,
            **rounding,
        }

    @staticmethod
    def from_dict(entry: Any) -> Recipe:
        """Read what `to_dict` returns.

        Raises
        ------
        PlanError
            If it is not that.
        """
        if not isinstance(entry, Mapping):
            raise PlanError("`quantization` is not an object")
        mode, calibration = entry.get("mode"), entry.get("calibration", "")
        rounding = entry.get("rounding", NEAREST)
        if mode not in (*MODES, HALF):
            raise PlanError(f"`quantization` has the mode {mode!r}; there are: {', '.join((*MODES, HALF))}")
        if calibration not in ("", *RANGE_METHODS):
            raise PlanError(
                f"`quantization` has the calibration {calibration!r}; there are: {', '.join(RANGE_METHODS)}"
            )
        if rounding not in ROUNDINGS:
            raise PlanError(f"`quantization` has the rounding {rounding!r}; there are: {', '.join(ROUNDINGS)}")
        return Recipe(
            mode,
            _names(entry, "int8"),
            _names(entry, "float"),
            bool(entry.get("per_channel", True)),
            bool(entry.get("reduced_range", False)),
            calibration,
            _ranges(entry.get("ranges", {})),
            _names(entry, "kept"),
            _names(entry, "four_bit"),
            rounding,
        )


def _names(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = entry.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PlanError(f"`quantization`: {key!r} is not a list of names")
    return tuple(names)


def _ranges(entry: Any) -> Ranges:
    if not isinstance(entry, Mapping):
        raise PlanError("`quantization`: 'ranges' is not an object")
    ranges: dict[str, tuple[float, float]] = {}
    for name, ends in entry.items():
        numbers = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
        if not numbers or not ends[0] <= ends[1]:
            raise PlanError(f"`quantization`: the range of {name!r} is not two numbers, the lower one first")
        ranges[name] = (float(ends[0]), float(ends[1]))
    return ranges
