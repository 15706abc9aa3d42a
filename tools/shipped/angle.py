"""PP-OCR's angle classifier: is a line upside down? Scores (N, 2); which lines were turned is known."""

from __future__ import annotations

import numpy as np

from shipped.agreement import same_top
from shipped.family import Arrays, Family, Figures, Groups, Model, Request, first_sample
from shipped.lettering import Printer, as_input, resized
from shipped.running import both

HEIGHT, WIDTH = 48, 192
CALIBRATION = 512
FRESH = 1000


def _lines(request: Request, count: int) -> Arrays:
    printer = Printer(request)
    turned = printer.rng.permutation(np.arange(count) % 2)
    pictures = [printer.strip(WIDTH / HEIGHT)[0][:: 1 - 2 * t, :: 1 - 2 * t] for t in turned]
    lines = [as_input(resized(np.ascontiguousarray(picture), HEIGHT, WIDTH), WIDTH) for picture in pictures]
    return {"x": np.stack(lines), "labels": turned.astype(np.int64)}


def calibrate(request: Request) -> Arrays:
    return _lines(request, CALIBRATION)


def fresh(request: Request) -> Groups:
    return {"lines": _lines(request, FRESH)}


def judge(original: Model, pruned: Model, groups: Groups) -> Figures:
    ((arrays, (reference,), (found,)),) = both(original, pruned, groups)
    truth = arrays["labels"]
    return {
        "lines": len(truth),
        "accuracy_original": float((reference.argmax(axis=1) == truth).mean()),
        "accuracy": float((found.argmax(axis=1) == truth).mean()),
        "agreement": float(same_top(reference, found).mean()),
    }


FAMILY = Family(calibrate, fresh, judge, first_sample, ("accuracy_original", "accuracy", "agreement"))
