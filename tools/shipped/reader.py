"""PP-OCR's recognizer: lines of text to CTC's scores (N, steps, 6625)."""

from __future__ import annotations

import numpy as np

from shipped.agreement import edit_distance, error_rate, greedy
from shipped.family import Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.lettering import Printer, as_input, resized
from shipped.running import both

HEIGHT, WIDTH = 48, 320
CALIBRATION = 256
FRESH = {320: 256, 192: 64, 480: 64}


def _lines(printer: Printer, count: int, width: int) -> dict[str, np.ndarray]:
    drawn = [printer.strip(width / HEIGHT) for _ in range(count)]
    pictures = np.stack([as_input(resized(picture, HEIGHT, width), width) for picture, _ in drawn])
    return {"x": pictures, "text": np.array([text for _, text in drawn])}


def calibrate(request: Request) -> Arrays:
    return {"x": _lines(Printer(request), CALIBRATION, WIDTH)["x"]}


def fresh(request: Request) -> Groups:
    printer = Printer(request)
    return {str(width): _lines(printer, count, width) for width, count in FRESH.items()}


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for _, (reference,), (found,) in both(original, pruned, groups):
        pairs += zip(greedy(reference), greedy(found), strict=True)
    alike = np.array([one == other for one, other in pairs])
    edits = np.array([edit_distance(one, other) for one, other in pairs])
    return {
        "lines": len(pairs),
        "read_alike": float(alike.mean()),
        "edit_rate": error_rate(pairs),
        "within_one_edit": float((edits <= 1).mean()),
        **_against_truth(original, groups, pairs),
    }


def _against_truth(model: Model, groups: Groups, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Figures:
    """The share of lines that each reads as they were written; spaces are not counted, as they are often missed."""
    letters = ["", *getattr(model, "metadata", {}).get("character", "").split("\n"), " "]
    texts = [str(text).replace(" ", "") for arrays in groups.values() for text in arrays["text"]]
    found = {"read_right_original": 0, "read_right_pruned": 0}
    for text, read in zip(texts, pairs, strict=True):
        for name, symbols in zip(found, read, strict=True):
            found[name] += text == "".join(letters[s] if s < len(letters) else "?" for s in symbols).replace(" ", "")
    return {name: count / len(texts) for name, count in found.items()}


FAMILY = Family(calibrate, fresh, judge, first_sample, ("read_alike", "edit_rate"))
