"""Where inputs and results are kept: archives of arrays, and lines of JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from shipped.family import Arrays, Groups

SEPARATOR = "/"  # between a group and an input; inputs may hold it, groups do not


def write_calibration(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)


def write_groups(path: Path, groups: Groups) -> None:
    np.savez(path, **{f"{g}{SEPARATOR}{name}": array for g, arrays in groups.items() for name, array in arrays.items()})


def read_groups(path: Path) -> Groups:
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            group, _, name = key.partition(SEPARATOR)
            groups[group][name] = archive[key]
    return dict(groups)


def append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
