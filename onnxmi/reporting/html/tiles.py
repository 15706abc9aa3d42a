"""The top of a page: one sentence, and three tiles that say how much faster and smaller, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.budget.goals import DEFAULT_DROP, UNITS, option
from onnxmi.budget.units import change_text
from onnxmi.reporting.html.findings import GoalRow, LossRow
from onnxmi.reporting.html.reading import Quantity, Run
from onnxmi.reporting.html.wording import amount, decimal, percent

_MINUS, _ARROW, _TIMES = "\N{MINUS SIGN}", "\N{RIGHTWARDS ARROW}", "\N{MULTIPLICATION SIGN}"
_NO_LOSS = 0.0005  # shares that print as 0.0 points
_NOTICED = 0.02  # a speed-up or a change of size below it is none


@dataclass(frozen=True)
class Tile:
    """One of the three results.

    Attributes
    ----------
    name, value : str
        Such as `faster` and `2.50x`.
    change : str
        Before and after.
    interval : str
        How sure it is, and from how many samples.
    state : str
        good, warn or bad: its color, said in words by `verdict`.
    verdict : str
        What was asked for, and whether it is met.
    """

    name: str
    value: str
    change: str
    interval: str
    state: str
    verdict: str


def headline(run: Run) -> str:
    """Return the result in one sentence, such as `2.50x faster, 30% smaller, 0.4 points less accurate`."""
    parts = []
    if run.speedup is not None and run.speedup > 0:
        value, name = _speed(run.speedup)
        parts.append(f"{value} {name}")
    size = _quantity(run, "file size")
    if size is not None and size.left is not None:
        parts.append(" ".join(change_text(size.left)))
    if run.findings.loss is not None:
        parts.append(_lost_sentence(run.findings.loss))
    return ", ".join(parts) or "A pruned model"


def tiles(run: Run) -> list[Tile]:
    """Return what is known of speed, size and quality, in this order."""
    return [tile for tile in (_speed_tile(run), _size_tile(run), _quality_tile(run)) if tile is not None]


def _quantity(run: Run, name: str) -> Quantity | None:
    return next((own for own in run.quantities if own.name == name), None)


def _speed(speedup: float) -> tuple[str, str]:
    return (f"{speedup:.2f}{_TIMES}", "faster") if speedup >= 1 else (f"{1 / speedup:.2f}{_TIMES}", "slower")


def _lost_sentence(loss: LossRow) -> str:
    accuracy = loss.metric == "accuracy"
    if loss.unit != "points":
        return f"{decimal(loss.lost)} {loss.unit} of {loss.metric} lost"
    if abs(loss.lost) < _NO_LOSS:
        return "just as accurate" if accuracy else f"no {loss.metric} lost"
    number = f"{abs(100 * loss.lost):.1f}"
    points = "point" if number == "1.0" else "points"
    if accuracy:
        return f"{number} {points} {'less' if loss.lost > 0 else 'more'} accurate"
    return f"{number} {points} of {loss.metric} {'lost' if loss.lost > 0 else 'gained'}"


def _speed_tile(run: Run) -> Tile | None:
    latency = _quantity(run, "latency, one sample")
    if run.speedup is None or run.speedup <= 0:
        return None
    value, name = _speed(run.speedup)
    interval = run.findings.speedup_interval
    span = "" if interval is None else f"95% interval {interval[0]:.2f} to {interval[1]:.2f}"
    change = "" if latency is None else _before_after(latency)
    # Faster only where the interval says so: a busy machine may show either.
    least = run.speedup if interval is None else interval[0]
    is_good = run.speedup > 1 + _NOTICED and least > 1
    state, verdict = _judged(run.findings.goal("speedup", "max_latency"), is_good=is_good)
    return Tile(name, value, change, span, state, verdict)


def _size_tile(run: Run) -> Tile | None:
    size = _quantity(run, "file size")
    if size is None or size.left is None:
        return None
    value, name = change_text(size.left)
    state, verdict = _judged(run.findings.goal("max_size", "params"), is_good=size.left < 1 - _NOTICED)
    parameters = _quantity(run, "parameters")
    more = "" if parameters is None or parameters.left is None else f"{percent(parameters.left)} of the parameters left"
    return Tile(name, value, _before_after(size), more, state, verdict)


def _quality_tile(run: Run) -> Tile | None:
    loss = run.findings.loss
    if loss is None:
        return _error_tile(run)
    points = loss.unit == "points"
    lost = 100 * loss.lost if points else loss.lost
    value = f"{_MINUS if lost > 0 else '+' if lost < 0 else ''}{abs(lost):.{1 if points else 3}f}"
    name = f"{'points' if points else loss.unit} of {loss.metric}"
    where = f"{loss.samples:,} samples" + (f" of {run.findings.evaluated_on}" if run.findings.evaluation else "")
    span = f"{_interval(loss)}on {where}"
    goal = run.findings.goal("max_drop")
    high = loss.lost if loss.high is None else loss.high
    state, verdict = _judged(goal, is_good=high <= DEFAULT_DROP, by_default=run.findings.by_default)
    return Tile(name, value, f"{_value(loss.before)} {_ARROW} {_value(loss.after)}", span, state, verdict)


def _interval(loss: LossRow) -> str:
    if loss.low is None or loss.high is None:
        return ""
    factor, digits = (100.0, 1) if loss.unit == "points" else (1.0, 3)
    ends = (f"{factor * end + 0.0:.{digits}f}".replace("-", _MINUS) for end in (loss.low, loss.high))
    return f"{' to '.join(ends)} lost with 95% confidence, "


def _value(value: float) -> str:
    return f"{100 * value:.1f}%" if 0 <= value <= 1 else decimal(value)


def _error_tile(run: Run) -> Tile | None:
    """Return the error of the outputs, where no metric is known."""
    error = run.agreement.relative_error
    if error is None:
        return None
    return Tile("error of the output", percent(error), "of its standard deviation", "", "warn", "")


def _before_after(quantity: Quantity) -> str:
    return f"{amount(quantity.before, quantity.unit)} {_ARROW} {amount(quantity.after, quantity.unit)}"


def _judged(goal: GoalRow | None, *, is_good: bool, by_default: bool = False) -> tuple[str, str]:
    if goal is None or goal.name not in UNITS or goal.asked is None:
        return ("good" if is_good else "warn"), ""
    typed = UNITS[goal.name].typed(goal.asked)
    asked = f"asked: at most {typed} lost" if by_default else f"asked: {option(goal.name)} {typed}"
    if goal.undecided:
        return "warn", f"{asked}: the test samples cannot tell"
    return ("good", f"{asked}: met") if goal.met else ("bad", f"{asked}: missed")
