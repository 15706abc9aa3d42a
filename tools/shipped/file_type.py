"""Magika: the first and last 1,024 bytes of a file to one of 214 types."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shipped.agreement import same_top
from shipped.family import Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.running import both

FOLDERS = ("/usr", "/etc", "/var/lib", "/opt")
CALIBRATION, FRESH = 768, 1024
MOST_AN_EXTENSION = {"calibration": 10, "fresh": 20}
MOST_READ = 100  # files of an extension
SIZES = (16, 1 << 24)  # bytes of a file, at least and at most
ENDS, BLOCK, PADDING = 1024, 4096, 256
CONFIDENT = 0.5
INPUT = "bytes"


def features(content: bytes) -> NDArray[np.int32]:
    """(2048,) the first and the last bytes without blanks at the ends, as the package's own code makes them."""
    start, end = content[:BLOCK].lstrip()[:ENDS], content[-BLOCK:].rstrip()[-ENDS:]
    row = np.full(2 * ENDS, PADDING, dtype=np.int32)
    row[: len(start)] = np.frombuffer(start, dtype=np.uint8)
    row[2 * ENDS - len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return row


def _files() -> Iterator[Path]:
    for top in FOLDERS:
        for folder, below, names in os.walk(top):
            below.sort()
            yield from (Path(folder, name) for name in sorted(names))


def _by_extension() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in _files():
        if path.is_file() and not path.is_symlink() and SIZES[0] <= path.stat().st_size <= SIZES[1]:
            found[path.suffix.lower()].append(path)
    return found


def _own(paths: list[Path], request: Request, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """Rows of an extension's files that are the part's own: their content decides, so that none is in both parts."""
    rows: dict[bytes, NDArray[np.int32]] = {}
    for i in rng.permutation(len(paths))[:MOST_READ]:
        row = features(paths[i].read_bytes())
        digest = sha256(row.tobytes()).digest()
        if digest[0] % 2 == request.number:
            rows.setdefault(digest, row)
    return list(rows.values())[: MOST_AN_EXTENSION[request.part]]


def _rows(request: Request, count: int) -> Arrays:
    rng = request.rng()
    rows = [row for _, paths in sorted(_by_extension().items()) for row in _own(paths, request, rng)]
    return {INPUT: np.stack([rows[i] for i in rng.permutation(len(rows))[:count]])}


def calibrate(request: Request) -> Arrays:
    return _rows(request, CALIBRATION)


def fresh(request: Request) -> Groups:
    return {"files": _rows(request, FRESH)}


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    ((_, (reference,), (found,)),) = both(original, pruned, groups)
    same, confident = same_top(reference, found), reference.max(axis=1) > CONFIDENT
    return {
        "files": len(same),
        "types": len(np.unique(reference.argmax(axis=1))),
        "same_type": float(same.mean()),
        "confident": int(confident.sum()),
        "same_where_confident": float(same[confident].mean()),
    }


FAMILY = Family(calibrate, fresh, judge, first_sample, ("same_type", "same_where_confident"))
