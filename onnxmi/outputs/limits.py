"""How much damage is too much: for a promised loss, and for any result."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.outputs.view import Kind
from onnxmi.outputs.yardstick import Damage, Part

POINT = 0.01  # the loss that `LIMITS` stand for
LIMITS: Mapping[Kind, float] = {
    "classes": 0.02,
    "values": 0.01,
    "map": 0.01,
    "sequence": 0.005,
    "detections": 0.01,
    "embedding": 0.02,
    "signal": 0.01,
    "state": 0.05,
}
"""Damage of an output at which about one point of what its kind is used for is lost; see docs/outputs.md."""


FLOOR = 0.5  # damage from which on an output is lost: less than half of what the original says is left


def excess(damage: Damage, drop: float) -> float:
    """Return how many times the damage that goes with a loss the worst output has; 1 is just within.

    Parameters
    ----------
    drop : float
        The loss that is allowed, in points; limits go with it, up to `FLOOR`.
    """
    return max((part.error / min(LIMITS[part.view.kind] * drop / POINT, FLOOR) for part in damage.parts), default=0.0)


def loss_text(part: Part) -> str:
    """Say of an output that it is lost."""
    return (
        f"output {part.view.name} is lost: its damage is {part.error:.2f}, where 1 is as bad as a constant and"
        f" {FLOOR:g} the most"
    )


def lost(damage: Damage) -> tuple[Part, ...]:
    """Return the outputs that explain less than half of the original's, the worst first."""
    gone = [part for part in damage.parts if not part.error <= FLOOR]
    return tuple(sorted(gone, key=lambda part: -part.error))
