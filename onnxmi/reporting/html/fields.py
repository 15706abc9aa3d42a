"""Reads JSON files that may be older, edited or hostile.

What is missing is left out of the page; what is there and of another type is an error that says where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxmi.errors import DataError
from onnxmi.reporting.tables import printable

LARGEST = 1e18  # no count, size or time comes near it, and what is drawn must not overflow
LONGEST = 200  # characters of a text that the page shows: a name of a megabyte would bury the rest
_KIND = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    DataError
        If the file cannot be read or holds anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise DataError(f"{path}: is empty")
        found = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not what `onnxmi prune --json` or `onnxmi sweep --json` prints")
    return found


def shown(text: str, longest: int = LONGEST) -> str:
    """Escape what cannot be seen, and shorten in the middle: names differ most at their ends."""
    text = printable(text)
    if len(text) <= longest:
        return text
    tail = 2 * longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


class Fields:
    """An object of a JSON file; it knows where it stands, for the errors.

    Parameters
    ----------
    values : mapping
        The object.
    where : str
        File and place.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def _wrong(self, key: str, wanted: str) -> DataError:
        return DataError(f"{self.where}: {shown(key)!r} is not {wanted}: is this what onnxmi printed?")

    def _typed(self, key: str, kind: type) -> Any:
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self._wrong(key, _KIND[kind])
        return value

    def text(self, key: str, longest: int = LONGEST) -> str:
        """A text fit to be shown; empty if missing."""
        return shown(self._typed(key, str) or "", longest)

    def lists(self, key: str) -> bool:
        """Whether a list is there."""
        return isinstance(self._values.get(key), list)

    def says(self, key: str) -> bool:
        """Whether something of any type is there that is not empty."""
        return bool(self._values.get(key))

    def spelled(self, key: str) -> str:
        """Whatever is there, as a text fit to be shown."""
        return shown(_spelled(self._values.get(key)))

    def flag(self, key: str) -> bool:
        """Whether something holds; missing means no."""
        return bool(self._typed(key, bool))

    def number(self, key: str) -> float | None:
        """A number; None if missing."""
        value = self._values.get(key)
        if value is None:
            return None
        found = _number(value)
        if found is None:
            raise self._wrong(key, "a number")
        return found

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers, without those that were not finite."""
        found = [_number(value) for value in self._typed(key, list) or [] if value is not None]
        if None in found:
            raise self._wrong(key, "a list of numbers")
        return tuple(value for value in found if value is not None)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts fit to be shown."""
        found = self._typed(key, list) or []
        if not all(isinstance(value, str) for value in found):
            raise self._wrong(key, "a list of texts")
        return tuple(shown(value) for value in found)

    def fields(self, key: str) -> Fields:
        """An object; an empty one if missing."""
        return Fields(self._typed(key, dict) or {}, f"{self.where}: {shown(key)}")

    def entries(self, key: str) -> tuple[Fields, ...]:
        """A list of objects."""
        found = self._typed(key, list) or []
        if not all(isinstance(value, dict) for value in found):
            raise self._wrong(key, "a list of objects")
        return tuple(Fields(value, f"{self.where}: {shown(key)}[{place}]") for place, value in enumerate(found))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All keys and values as texts; empty values are left out."""
        return tuple(
            (shown(key), shown(_spelled(value))) for key, value in self._values.items() if value not in (None, [], {})
        )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None  # not a number is not below it either


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_spelled(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_spelled(entry)}" for key, entry in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
