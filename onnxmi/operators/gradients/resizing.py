"""The gradient of Resize: it is linear along each axis, so what comes back goes through the transposed matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isclose

import numpy as np

from onnxmi.model import Node
from onnxmi.operators.gradients.vjp import Call, Gradients
from onnxmi.typing import Array

Coordinates = Callable[[Array, int, int, float], Array]


def _half_pixel(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray((place + 0.5) / scale - 0.5)


def _pytorch(place: Array, before: int, after: int, scale: float) -> Array:
    return _half_pixel(place, before, after, scale) if after > 1 else np.zeros(place.shape)


def _aligned(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray(place * (before - 1) / (after - 1)) if after > 1 else np.zeros(place.shape)


def _asymmetric(place: Array, before: int, after: int, scale: float) -> Array:
    return np.asarray(place / scale)


COORDINATES: Mapping[str, Coordinates] = {
    "align_corners": _aligned,
    "asymmetric": _asymmetric,
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch,
}
"""Mode -> where an element of the result lies in the operand, from its place, both sizes and the scale."""

NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
}


def is_known(node: Node) -> bool:
    """Whether the gradient of a Resize is known: to the nearest element, or linear without antialiasing."""
    settings = node.attributes
    return (
        settings.get("mode", "nearest") in ("nearest", "linear")
        and settings.get("coordinate_transformation_mode", "half_pixel") in COORDINATES
        and settings.get("nearest_mode", "round_prefer_floor") in NEAREST
        and not settings.get("antialias", 0)
        and settings.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    )


def resize(call: Call) -> Gradients:
    """Back through each axis that was resized."""
    made = call.g
    for axis, (before, after) in enumerate(zip(call.x.shape, call.y.shape, strict=True)):
        if before != after or not isclose(_scale(call, axis), 1.0):
            matrix = _matrix(call, before, after, _scale(call, axis)).astype(made.dtype)
            made = np.moveaxis(np.moveaxis(made, axis, -1) @ matrix, -1, axis)
    return call.only(made)


def _scale(call: Call, axis: int) -> float:
    """The scale that was asked for, or that of the sizes."""
    scales = call.operand(2 if call.opset >= 11 else 1)
    axes = [each % call.x.ndim for each in call.get("axes", range(call.x.ndim))]
    if scales is not None and scales.size and axis in axes:
        return float(scales[axes.index(axis)])
    return float(call.y.shape[axis] / call.x.shape[axis])


def _matrix(call: Call, before: int, after: int, scale: float) -> Array:
    """(after, before): what each element of the result is made of."""
    mode = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    place = COORDINATES[mode](np.arange(after, dtype=np.float64), before, after, scale)
    made = np.zeros((after, before))
    rows = np.arange(after)
    if call.get("mode", "nearest") == "nearest":
        rounding = NEAREST[call.get("nearest_mode", "round_prefer_floor" if call.opset >= 11 else "floor")]
        made[rows, np.clip(rounding(place), 0, before - 1).astype(int)] = 1.0
        return made
    low = np.floor(place)
    for corner, share in ((low, 1.0 - (place - low)), (low + 1, place - low)):
        np.add.at(made, (rows, np.clip(corner, 0, before - 1).astype(int)), share)
    return made
