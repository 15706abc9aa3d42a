"""What `prune --json` and `sweep --json` print, small and made up; and a reader that knows what a page is made of."""

from __future__ import annotations

import copy
from html.parser import HTMLParser
from typing import Any

import pytest

VOID = {"meta", "link", "br", "img", "input", "hr"}

RUN: dict[str, Any] = {
    "output": "small.onnx",
    "plan": "small.plan.json",
    "command": "onnxmi prune model.onnx calib.npz -o small.onnx",
    "model": {"sha256": "ab" * 32},
    "plan_sha256": "cd" * 32,
    "versions": {"onnxmi": "9.8.7", "numpy": "2.3.4"},
    "options": {"keep": 0.5, "score": "joint", "cut": [], "skip": [], "only": [], "seed": 0},
    "before": {"parameters": 1000, "size": 4400, "macs": 2000},
    "after": {"parameters": 250, "size": 1320, "macs": 700},
    "latency_ms": {
        "before": {"median": 0.4, "spread": 0.01},
        "after": {"median": 0.2, "spread": 0.02},
        "speedup": 2.0,
    },
    "quality": {
        "samples": 127,
        "relative_error": 0.125,
        "agreement": 0.97,
        "accuracy": 0.9,
        "original_accuracy": 0.92,
    },
    "layers": [
        {
            "name": "conv1",
            "kind": "channels",
            "before": 17,
            "after": 5,
            "parts": 1,
            "gains": [3.0, 2.0, 1.0, 0.5, 0.25],
        },
        {"name": "conv2", "kind": "channels", "before": 34, "after": 17, "parts": 1, "gains": [1.0] * 17},
        {"name": "heads", "kind": "heads", "before": 4, "after": 3, "parts": 1, "gains": []},
    ],
    "left_out": ["embedding"],
    "kept_whole": [{"name": "stem", "kind": "channels", "units": 23}],
    "frozen": [{"name": "logits", "size": 10, "reason": "an output of the model"}],
    "repair": [
        {"operator": "conv2", "used": True, "ridge": 0.1, "error_plain": 0.5, "error_repaired": 0.125, "reason": ""},
        {
            "operator": "fc",
            "used": False,
            "ridge": 0.0,
            "error_plain": 0.3,
            "error_repaired": 0.4,
            "reason": "the plain cut was better",
        },
    ],
    "checks": [{"name": "runs", "passed": True, "detail": "finite outputs"}],
    "notes": ["measured on 900 samples"],
    "trials": [
        {"share": 0.5, "macs": 700, "size": 1320, "drop": 0.02},
        {"share": 0.7, "macs": 1100, "size": 2300, "drop": 0.01},
    ],
    "budget": {"asked": {"macs": 0.4}, "reached": {"macs": 0.35}},
}

SWEEP: dict[str, Any] = {
    "model": "model.onnx",
    "dense": {"size": 4400, "parameters": 1000, "macs": 2000, "value": 0.92},
    "points": [
        {
            "keep": keep,
            "size": int(4400 * keep),
            "parameters": int(1000 * keep),
            "macs": int(2000 * keep),
            "speedup": 1 / keep,
            "metric": "accuracy",
            "value": 0.92 - (1 - keep) / 5,
            "drop": (1 - keep) / 5,
            "samples": 127,
        }
        for keep in (0.25, 0.5, 0.75)
    ],
}


class Page(HTMLParser):
    """Every element with its attributes and its text, and what is wrong with how they are nested."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.source = content.decode()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []  # innermost element, text
        self.within: dict[str, list[int]] = {}  # tag -> what each element of it is in, by number
        self._open: list[int] = []
        self.feed(self.source)
        self.close()
        assert not self._open, "elements are left open"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.elements[self._open[-1]][0] if self._open else "", data))

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for tag, data in self.texts if tag != "style").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="session")
def example() -> tuple[dict[str, Any], dict[str, Any]]:
    """A run and a sweep, not to be changed."""
    return RUN, SWEEP


@pytest.fixture
def run() -> dict[str, Any]:
    return copy.deepcopy(RUN)


@pytest.fixture
def sweep() -> dict[str, Any]:
    return copy.deepcopy(SWEEP)


@pytest.fixture(scope="session")
def read() -> type[Page]:
    return Page
