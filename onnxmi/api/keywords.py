"""Options given as keywords: their types for editors and type checkers, and one line where a name is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from onnxmi.errors import UsageError
from onnxmi.typing import AnyPath

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Options = TypeVar("Options", bound=DataclassInstance)
else:
    Options = TypeVar("Options")

Names = str | Iterable[str]
Quantity = float | str | None
CountOrCounts = int | Iterable[int]

# What other tools call an option of ours.
_SYNONYMS: Mapping[str, str] = {
    "ignored_layers": "skip",
    "nodes_to_exclude": "skip",
    "pruning_ratio": "keep",
    "stats": "statistics",
    "time": "max_latency",
}


class PruneFields(TypedDict, total=False):
    """The fields of `onnxmi.PruneOptions`, which explains them."""

    keep: Quantity
    max_size: Quantity
    params: Quantity
    macs: Quantity
    speedup: Quantity
    max_latency: Quantity
    max_drop: Quantity
    best_effort: bool
    metric: str | None
    align: str | int
    batch: int
    quantize: str
    score: str
    estimator: str
    repair: bool
    cut: Names
    skip: Names
    only: Names
    seed: int
    threads: int
    batch_size: int
    mask: str | None
    memory: Quantity
    target: str
    sensitivity: bool
    latency: bool
    outputs: Names
    ignore_outputs: Names
    fix: Names
    allow_interface: bool
    few_samples: bool
    fresh: bool
    timings: AnyPath | None
    force: bool


def merged(options: Options | None, kind: type[Options], given: Mapping[str, Any], caller: str, *also: str) -> Options:
    """Return options with some fields replaced.

    Parameters
    ----------
    options : instance of `kind` or None
        None for the defaults.
    kind : type
        A dataclass.
    given : mapping of str to object
        Fields to replace.
    caller : str
        The function that was called, for messages.
    also : str
        Its other keywords, which a wrong name may have meant.

    Raises
    ------
    UsageError
        If there is no such field, or a value has a wrong type.
    """
    if options is not None and not isinstance(options, kind):
        raise UsageError(
            f"options: expected onnxmi.{kind.__name__}, not {type(options).__name__}; single options are keywords of"
            f" onnxmi.{caller}"
        )
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise UsageError(f"onnxmi.{caller} has no option {name!r}{_hint(name, [*known, *also])}")
    return replace(options or kind(), **given)


def _hint(name: str, known: list[str]) -> str:
    near = [_SYNONYMS[name]] if _SYNONYMS.get(name) in known else get_close_matches(name.lower(), known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known))}"
