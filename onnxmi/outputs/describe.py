"""What was inferred of the outputs, in one line each."""

from __future__ import annotations

from onnxmi.outputs.view import Meaning, View


def describe(meaning: Meaning) -> list[str]:
    """Return a line for each compared tensor and each output that is ignored.

    Such as `y: classes, softmax over axis 1 (10 columns); before the Softmax`.
    """
    compared = [f"{view.name}: {_what(view)}" for view in meaning.views]
    return compared + [f"{name}: ignored; {reason}" for name, reason in meaning.ignored.items()]


def _what(view: View) -> str:
    kind = f"{view.kind} (a guess)" if view.tentative else view.kind
    tensor = "" if view.tensor == view.output else f"compared at {view.tensor!r}"
    weight = "" if view.weight == 1.0 else f"weight {view.weight:.2g}"
    return "; ".join(filter(None, (f"{kind}, {_columns(view)}", view.why, tensor, weight)))


def _columns(view: View) -> str:
    axes = " and ".join(map(str, view.axes))
    axes = f"{'axes' if len(view.axes) > 1 else 'axis'} {axes}" if axes else ""
    count = f"{view.columns:,} column{'s' * (view.columns != 1)}"
    if view.link == "softmax":
        return f"softmax over {axes} ({count})" if axes else "softmax"
    function = "sigmoid" if view.link == "sigmoid" else "numbers"
    return f"{function} along {axes} ({count})" if axes else f"{function}, one column"
