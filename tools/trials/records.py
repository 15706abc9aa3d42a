"""Results as JSON lines, one a row, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Records:
    """The rows of a file. A row is known by its key: what was set, not what came out.

    Rows of another file that are `known` are not made again, and stay there.
    """

    def __init__(self, path: Path, known: Records | None = None) -> None:
        self._path, self._known = path, known
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows: dict[str, Row] = {}
        for row in map(json.loads, lines):
            self._rows[_name(row["key"])] = row

    def __iter__(self) -> Iterator[Row]:
        return (row["key"] | row["values"] for row in self._rows.values())

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return _name(key) in self._rows or (self._known is not None and key in self._known)

    def values(self, key: Mapping[str, Any]) -> Row:
        if self._known is not None and key in self._known:
            return self._known.values(key)
        return dict(self._rows[_name(key)]["values"])

    def ensure(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Row:
        """Make a row unless it is there, and write it down at once."""
        if key not in self:
            start = time.perf_counter()
            row = {"key": dict(key), "values": dict(make())}
            row["values"]["seconds"] = round(time.perf_counter() - start, 2)
            self._write(row)
            print(_name(key), row["values"], file=sys.stderr, flush=True)
        return self.values(key)

    def add_all(self, others: Records) -> None:
        """Write down the rows of another file that are not here."""
        for row in others._rows.values():
            if row["key"] not in self:
                self._write(row)

    def _write(self, row: Row) -> None:
        self._rows[_name(row["key"])] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(dict(key), sort_keys=True)
