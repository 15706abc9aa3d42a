"""What users say of outputs: `NAME:KIND[:AXIS][*WEIGHT]`, and outputs to leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from onnxmi.errors import UsageError
from onnxmi.outputs.view import KINDS, Kind, Meaning, View
from onnxmi.runtime.states import STATES

FORM = "NAME:KIND[:AXIS][*WEIGHT]"


@dataclass(frozen=True)
class Override:
    """What a user says of an output.

    Attributes
    ----------
    name : str
        A graph output, or one part of it as `inspect` names it.
    kind : str
        One of `KINDS`.
    axis : int or None
        The axis of its columns, counted in the tensor that is compared.
    weight : float or None
        In the damage of the whole model.
    """

    name: str
    kind: Kind
    axis: int | None = None
    weight: float | None = None


def parse_override(text: str) -> Override:
    """Read `NAME:KIND[:AXIS][*WEIGHT]`; names may hold colons.

    Raises
    ------
    UsageError
        If it is not of this form.
    """
    rest, star, weight = text.rpartition("*") if _is_number(text.rpartition("*")[2]) else (text, "", "")
    name, _, last = rest.rpartition(":")
    axis: int | None = None
    if _is_integer(last):
        axis = int(last)
        name, _, last = name.rpartition(":")
    kind = next((known for known in KINDS if known == last), None)
    if kind is None or not name:
        raise UsageError(f"{text!r} is not of the form {FORM}; kinds are {', '.join(KINDS)}")
    value = float(weight) if star else None
    if value is not None and value <= 0:
        raise UsageError(f"{text!r}: a weight has to be more than 0; to leave an output out, ignore it")
    return Override(name, kind, axis, value)


def _is_number(text: str) -> bool:
    try:
        return float(text) < float("inf")
    except ValueError:
        return False


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def check_ignored(names: Iterable[str], outputs: Sequence[str]) -> None:
    """Raise UsageError where an output that is to be ignored is none, or all are."""
    given = set(names)
    for name in given:
        if name not in outputs:
            raise UsageError(f"no output {name!r} to ignore; there are {', '.join(outputs)}")
    if given.issuperset(outputs):
        raise UsageError("all outputs are ignored: nothing is left to compare")


def apply_overrides(meaning: Meaning, overrides: Sequence[Override], shapes: Mapping[str, tuple[int, ...]]) -> Meaning:
    """Return a meaning as users correct it.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of each compared tensor.

    Raises
    ------
    UsageError
        If an output is not there or not compared, or has no such axis.
    """
    views = list(meaning.views)
    for override in overrides:
        meant = [place for place, view in enumerate(views) if override.name in (view.output, view.name)]
        if not meant:
            raise UsageError(_unknown(meaning, override.name))
        total = sum(views[place].weight for place in meant)
        for place in meant:
            view = views[place]
            share = view.weight / total if total else 1.0 / len(meant)
            views[place] = _apply_override(view, override, share, shapes[view.tensor])
    return replace(meaning, views=tuple(views))


def _unknown(meaning: Meaning, name: str) -> str:
    if name in meaning.ignored:
        return f"output {name!r} is not compared: {meaning.ignored[name]}"
    return f"no output {name!r}; there are {', '.join(view.name for view in meaning.views)}"


def _apply_override(view: View, override: Override, share: float, shape: tuple[int, ...]) -> View:
    rank = len(shape)
    axes = view.axes
    if override.axis is not None:
        if not -rank <= override.axis < rank:
            raise UsageError(f"output {override.name!r} has no axis {override.axis}: what is compared has {rank}")
        axes = (override.axis % rank,)
    link = view.link
    if override.kind == "classes" and link == "identity":
        link = "softmax"
        axes = axes or ((rank - 1,) if rank > 1 else ())
    columns = prod(shape[axis] for axis in axes)
    weight = _weight(view, override.kind) if override.weight is None else override.weight * share
    return replace(
        view,
        kind=override.kind,
        link=link,
        axes=axes,
        columns=columns,
        weight=weight,
        why="as given",
        tentative=False,
    )


def _weight(view: View, kind: Kind) -> float:
    """What a view weighs where the user does not say: what it did, unless it becomes a state or ceases to be one."""
    if (view.kind == "state") == (kind == "state"):
        return view.weight
    return STATES if kind == "state" else 1.0
