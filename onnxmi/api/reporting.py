"""Pages, as users call for them: what `onnxmi report` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxmi.api.results import Result, TradeOff
from onnxmi.api.targets import check_target
from onnxmi.errors import UsageError
from onnxmi.model.load import as_path
from onnxmi.model.save import write_atomically
from onnxmi.reporting import html
from onnxmi.reporting.html.fields import read_json
from onnxmi.typing import AnyPath


def report(
    result: Result | TradeOff | AnyPath, output: AnyPath | None = None, *, sweep: TradeOff | AnyPath | None = None
) -> Path:
    """Make one HTML page of a result: every layer's units, what was lost, the checks. It needs no other file.

    It is made with jinja2 and matplotlib: `pip install 'onnxmi[report]'`.

    Parameters
    ----------
    result : Result, TradeOff or path
        What `prune` or `sweep` returned, or a file with what their commands printed with `--json`.
    output : path, optional
        Where to write; for a file `run.json`, `run.html` by default.
    sweep : TradeOff or path, optional
        The trade-off curve to draw beside a result.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UsageError
        If jinja2 or matplotlib is missing, or it is not said where to write.
    DataError
        If a file cannot be read or written.
    """
    html.require_extra()
    data, where = _data(result, "result")
    curve = None if sweep is None else _data(sweep, "sweep")
    target = _target(result, output)
    check_target(target, *(Path(given) for given in (result, sweep) if not isinstance(given, Result | TradeOff | None)))
    write_atomically(target, html.render(data, where, curve))
    return target


def _data(given: Result | TradeOff | AnyPath, what: str) -> tuple[Mapping[str, Any], str]:
    if isinstance(given, Result | TradeOff):
        return given.to_dict(), f"this {'run' if isinstance(given, Result) else 'sweep'}"
    path = as_path(given, what)
    return read_json(path), str(path)


def _target(result: Result | TradeOff | AnyPath, output: AnyPath | None) -> Path:
    if output is not None:
        return as_path(output, "output")
    if isinstance(result, Result | TradeOff):
        raise UsageError("output: say where to write the page, such as 'run.html'")
    return as_path(result, "result").with_suffix(".html")
