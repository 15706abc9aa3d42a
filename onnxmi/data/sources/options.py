"""How samples are read, where a format leaves that open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypedDict

from onnxmi.errors import UsageError

LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class SourceOptions:
    """How to read samples. What is None follows from the model.

    Attributes
    ----------
    image : (int, int) or None
        Height and width that images are resized to.
    mean, std : tuple of float
        Of each channel, or one for all: what is subtracted, and then divided by; empty for 0 and 1.
    scale : float or None
        What pixels, 0 to 255, are multiplied with before; None for 1/255 where the input is of floating point, else 1.
    layout : "nchw", "nhwc" or None
        Where the channels of an image are.
    tokenizer : Path or None
        A `tokenizer.json`, which turns texts into tokens.
    columns : tuple of str
        Columns of a table that hold the text, or the two texts of a pair.
    label_column : str or None
        The column of a table that holds the classes.
    length : int or None
        Tokens that texts are cut to, or entries of a window of sound.
    rate : int or None
        Samples a second (Hz) that sounds must have.
    sample_axis : mapping of str to int
        Input -> its axis of samples, where the model does not say it and it is not the first.
    values : mapping of str to str
        Input -> a number that it is for all samples, beside what files have.
    sequences : str
        Empty where samples have nothing to do with each other; else the samples of a sequence follow each other, and
        states are run on: "*" for one sequence, or the path of an `.npy` file or the name of an array that has a number
        for each sample.
    states : mapping of str to str
        Output -> the input that it is fed back as; empty for those that names tell.
    """

    image: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    layout: str | None = None
    tokenizer: Path | None = None
    columns: tuple[str, ...] = ()
    label_column: str | None = None
    length: int | None = None
    rate: int | None = None
    sample_axis: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    sequences: str = ""
    states: Mapping[str, str] = field(default_factory=dict)


class SourceFields(TypedDict, total=False):
    """The same as keywords: texts as on the command line, or Python's own types."""

    image: str | int | tuple[int, int] | None
    mean: str | float | Iterable[float]
    std: str | float | Iterable[float]
    scale: str | float | None
    layout: str | None
    tokenizer: str | PathLike[str] | None
    columns: str | Iterable[str]
    label_column: str | None
    length: int | None
    rate: int | None
    sample_axis: str | Iterable[str] | Mapping[str, int]
    values: str | Iterable[str] | Mapping[str, float]
    sequences: str | bool
    states: str | Iterable[str] | Mapping[str, str]


def source_options(fields: Mapping[str, Any]) -> SourceOptions:
    """Read `SourceFields`.

    Raises
    ------
    UsageError
        If there is no such option, or what it is given cannot be read.
    """
    unknown = [name for name in fields if name not in _READERS]
    if unknown:
        raise UsageError(f"no option {unknown[0]!r} for samples; there are: {', '.join(sorted(_READERS))}")
    return SourceOptions(**{name: _read(name, value) for name, value in fields.items() if value not in (None, (), "")})


def _read(name: str, value: object) -> Any:
    try:
        return _READERS[name](value)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"--{_SPELLED.get(name, name.replace('_', '-'))} {value}: expected {_EXPECTED[name]}"
        ) from error


def _size(value: Any) -> tuple[int, int]:
    parts = value.lower().split("x") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    height, width = (_positive(part) for part in (parts * 2 if len(parts) == 1 else parts))
    return height, width


def _positive(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        value = value.split(",")
    return tuple(map(float, value)) if isinstance(value, Iterable) else (float(value),)


def _divisors(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if not all(numbers):
        raise ValueError(value)
    return numbers


def _layout(value: Any) -> str:
    if value not in LAYOUTS:
        raise ValueError(value)
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
    if len(names) > 2 or not all(isinstance(name, str) and name for name in names):
        raise ValueError(value)
    return names


def _axes(value: Any) -> dict[str, int]:
    if isinstance(value, Mapping):
        return {str(name): int(axis) for name, axis in value.items()}
    pairs = [text.rpartition("=") for text in ([value] if isinstance(value, str) else value)]
    if not all(name for name, _, _ in pairs):
        raise ValueError(value)
    return {name: int(axis) for name, _, axis in pairs}


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(left): str(right) for left, right in value.items()}
    pairs = [text.partition("=") for text in ([value] if isinstance(value, str) else value)]
    if not all(left and right for left, _, right in pairs):
        raise ValueError(value)
    return {left: right for left, _, right in pairs}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "image": _size,
    "mean": _numbers,
    "std": _divisors,
    "scale": float,
    "layout": _layout,
    "tokenizer": lambda value: Path(fspath(value)),
    "columns": _names,
    "label_column": str,
    "length": _positive,
    "rate": _positive,
    "sample_axis": _axes,
    "sequences": lambda value: "*" if value is True else str(value),
    "values": _pairs,
    "states": _pairs,
}
_SPELLED = {"columns": "column", "states": "state", "values": "value", "sequences": "sequence"}  # on the command line
_EXPECTED: Mapping[str, str] = {
    "image": "a height and a width such as 224x224",
    "mean": "numbers such as 0.485,0.456,0.406",
    "std": "numbers other than 0, such as 0.229,0.224,0.225",
    "scale": "a number",
    "layout": " or ".join(LAYOUTS),
    "tokenizer": "the path of a tokenizer.json",
    "columns": "a column, or two for pairs of texts",
    "label_column": "a column",
    "length": "a whole number above 0",
    "rate": "samples a second, such as 16000",
    "sample_axis": "an input and its axis, such as state=1",
    "values": "an input and a number, such as sr=16000",
    "sequences": "an .npy file or an array that has a number for each sample",
    "states": "an output and the input that it is fed back as, such as stateN=state",
}
