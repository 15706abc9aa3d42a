"""How much damage is too much: for a promised loss, and for any result."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.evaluation.yardstick import Damage, Part
from onnxmi.outputs.view import Kind, View

POINT = 0.01  # the loss that `LIMITS` stand for
LIMITS: Mapping[Kind, float] = {
    "classes": 0.0175,
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
COLUMN_FLOOR = 0.8  # damage of one column from which on it is lost: of fresh samples it may well be 1, a constant's
MOST_NUMBERS = 100  # columns of plain numbers from which on one of them is less than 1 % of what the output says
WHOLE: frozenset[Kind] = frozenset({"embedding", "state"})  # used as one vector: no column means anything by itself


def severity(part: Part) -> float:
    """Return how many times the damage has that an output, or its worst column, is lost at."""
    # Either is enough: an output of many columns may lose one whole column and keep a small mean. One sample alone may
    # hold most of a rare class, and loses no column.
    column = part.worst if part.elsewhere is None else min(part.worst, part.elsewhere)
    return max(part.error / FLOOR, column / COLUMN_FLOOR if _columns_count(part.view) else 0.0)


def _columns_count(view: View) -> bool:
    """Whether one column is worth an objection; classes of a last Softmax or Sigmoid are chosen by what they carry."""
    return view.kind not in WHOLE and (view.link != "identity" or view.columns <= MOST_NUMBERS)


def excess(damage: Damage, drop: float, standard_errors: float = 0.0) -> float:
    """Return how many times the damage that goes with a loss the worst output has; 1 is just within.

    Parameters
    ----------
    drop : float
        The loss that is allowed, in points; limits go with it, up to `FLOOR`.
    standard_errors : float
        How many of these to add to the damage: it is that of some samples, and stands for that of all.
    """
    return max((max(_over_limit(part, drop, standard_errors), severity(part)) for part in damage.parts), default=0.0)


def _over_limit(part: Part, drop: float, standard_errors: float) -> float:
    return (part.error + standard_errors * part.standard_error) / allowed_damage(part.view.kind, drop)


def allowed_damage(kind: Kind, drop: float) -> float:
    """Return the damage of an output that goes with a loss, in points."""
    # Damage grows about linearly with the loss where both are small; it is never allowed beyond the floor.
    return min(LIMITS[kind] * drop / POINT, FLOOR)


def loss_text(part: Part) -> str:
    """Say of an output that it is lost, or which of its columns is."""
    if not part.error <= FLOOR or part.column is None:
        return (
            f"output {part.view.name} is lost: its damage is {part.error:.2f}, where 1 is as bad as a constant and"
            f" {FLOOR:g} is the limit"
        )
    return (
        f"column {part.column} of output {part.view.name} is lost: its damage is {part.worst:.2f}, where 1 is as bad as"
        f" a constant and {COLUMN_FLOOR:g} is the limit"
    )


def lost(damage: Damage) -> tuple[Part, ...]:
    """Return the outputs that explain less than half of the original's, or have a lost column; the worst first."""
    gone = [part for part in damage.parts if not severity(part) <= 1]
    return tuple(sorted(gone, key=lambda part: -severity(part)))
