"""Fields of option records: what users write is read when a record is made, and wrong types are one clear line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from numbers import Integral
from typing import Generic, TypeVar, cast

from onnxmi.budget.units import ShareOfFile, Unit, read_file_size, read_quantity
from onnxmi.errors import UsageError

Held = TypeVar("Held")
Given = TypeVar("Given", contravariant=True)


class OptionField(Generic[Held, Given]):
    """A field of a dataclass that takes several types and holds one.

    Parameters
    ----------
    read : callable(object) -> Held
        Turns what was given into what is held; raises UsageError where it cannot.
    default : Held
        What is held where nothing is given; it is not read.
    """

    def __init__(self, read: Callable[[object], Held], default: Held) -> None:
        self._read, self._default = read, default
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Held:
        return self._default if instance is None else cast(Held, vars(instance)[self._name])

    def __set__(self, instance: object, value: Given) -> None:
        try:
            vars(instance)[self._name] = self._default if value is self._default else self._read(value)
        except UsageError as error:
            raise UsageError(f"{self._name}: {error}") from error


MaybeQuantity = OptionField[float | None, float | str | None]
"""A quantity, or None."""
Quantity = OptionField[float, float | str]
"""A quantity."""
MaybeCount = OptionField[int | None, int | None]
"""A whole number, or None."""
MaybeSize = OptionField[int | None, float | str | None]
"""A whole number of bytes, or None."""
MaybeFileSize = OptionField[int | ShareOfFile | None, float | str | None]
"""The size of a file in bytes, a share of the original's, or None."""
Names = OptionField[tuple[str, ...], str | Iterable[str]]
"""Names or patterns; one of them may come without a list around it."""
Count = OptionField[int, int]
"""A whole number."""
Counts = OptionField[tuple[int, ...], int | Iterable[int]]
"""Whole numbers; one of them may come without a list around it."""
Flag = OptionField[bool, bool]
"""True or False."""
Text = OptionField[str, str]
"""A text."""
MaybeText = OptionField[str | None, str | None]
"""A text, or None."""


def maybe_quantity(unit: Unit) -> MaybeQuantity:
    """Make a field that takes "50%" or 0.5, None by default."""
    return OptionField(lambda value: None if value is None else read_quantity(value, unit), None)


def quantity(unit: Unit, default: float) -> Quantity:
    """Make a field that takes "5s" or a number, and holds a number."""
    return OptionField(lambda value: read_quantity(value, unit), default)


def maybe_size(unit: Unit) -> MaybeSize:
    """Make a field that takes "10MB" or a number of bytes, None by default."""
    return OptionField(lambda value: None if value is None else _whole(read_quantity(value, unit)), None)


def maybe_file_size() -> MaybeFileSize:
    """Make a field that takes "10MB", a number of bytes, or "50%" of the original, None by default."""
    return OptionField(lambda value: None if value is None else read_file_size(value), None)


def count(default: int) -> Count:
    """Make a field that takes a whole number."""
    return OptionField(read_count, default)


def maybe_count() -> MaybeCount:
    """Make a field that takes a whole number or None."""
    return OptionField(lambda value: None if value is None else read_count(value), None)


def counts(*default: int) -> Counts:
    """Make a field that takes a whole number or several."""
    return OptionField(_read_counts, default)


def flag(*, default: bool) -> Flag:
    """Make a field that takes True or False."""
    return OptionField(_read_flag, default)


def text(default: str) -> Text:
    """Make a field that takes a text."""
    return OptionField(_read_text, default)


def maybe_text() -> MaybeText:
    """Make a field that takes a text or None."""
    return OptionField(lambda value: None if value is None else _read_text(value), None)


def maybe_path() -> MaybeText:
    """Make a field that takes a path or None."""
    return OptionField(
        lambda value: (
            None if value is None else _read_text(os.fspath(value) if isinstance(value, os.PathLike) else value)
        ),
        None,
    )


def names(separator: str | None = None) -> Names:
    """Make a field that takes a text or several, empty by default; a separator divides a text into several."""
    return OptionField(lambda value: read_names(value, separator), ())


def read_names(value: object, separator: str | None = None) -> tuple[str, ...]:
    """Read a text or an iterable of texts.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    if isinstance(value, str):
        parts = [value] if separator is None else value.split(separator)
        return tuple(filter(None, (part.strip() for part in parts)))
    read = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(part, str) for part in read):
        raise UsageError(f"{value!r} is neither a text nor a list of texts")
    return read


def read_count(value: object) -> int:
    """Read a whole number.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(f"{value!r} is not a whole number")
    return int(value)


def _read_counts(value: object) -> tuple[int, ...]:
    return tuple(map(read_count, value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)))


def _whole(number: float) -> int:
    try:
        return int(number)
    except (OverflowError, ValueError) as error:
        raise UsageError(f"{number!r} is not a whole number") from error


def _read_flag(value: object) -> bool:
    if str(value) not in ("True", "False") or isinstance(value, str):  # numpy's own true and false, too
        raise UsageError(f"{value!r} is neither True nor False")
    return bool(value)


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is not a text")
    return value
