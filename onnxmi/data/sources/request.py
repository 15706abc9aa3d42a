"""What a reader of one format is asked for, and what it gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from onnxmi.data.shards import Shard
from onnxmi.data.sources.options import SourceOptions
from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import Graph, TensorInfo


@dataclass(frozen=True)
class Request:
    """Files to read, and for which model.

    Attributes
    ----------
    source : Path
        What the user named: a file, or a folder.
    paths : sequence of Path
        The files, sorted by name.
    graph : Graph
        Of the model.
    options : SourceOptions
        How to read them.
    shard : Shard or None
        Which part of their source is measured, where the others are measured apart.
    cuts_files : bool
        Whether the shard is some of these files' samples, and not all. A reader that finds them no sooner than the
        others may read all.
    """

    source: Path
    paths: Sequence[Path]
    graph: Graph
    options: SourceOptions
    shard: Shard | None = None
    cuts_files: bool = False

    def file_captions(self) -> tuple[str, ...]:
        """Return the files' names, with their folders below the source."""
        return tuple(os.path.relpath(path, self.source) if path != self.source else path.name for path in self.paths)

    def only_input(self, ranks: Sequence[int], noun: str) -> TensorInfo:
        """Return the input that the files are for: the only one with so many axes.

        Raises
        ------
        CalibrationError
            If there is none, or several.
        """
        fitting = [info for info in self.graph.inputs if info.dims is not None and len(info.dims) in ranks]
        if len(fitting) != 1:
            names = ", ".join(repr(info.name) for info in fitting) or "none"
            raise CalibrationError(f"{self.source}: which input {noun} are for is not clear: {names} could be")
        return fitting[0]


@dataclass(frozen=True)
class SampleData:
    """What was read.

    Attributes
    ----------
    arrays : mapping of str to array
        By the names of the inputs, and `labels`.
    notes : tuple of str
        What the user should know of how they were read.
    divided : bool
        Whether they are the samples of the requested shard alone.
    held : object
        What has to be kept as long as arrays are read: the folder of fetched files.
    captions : tuple of str
        What people know each sample by: its text, or the name of its file. Empty where there is no such thing.
    """

    arrays: Mapping[str, SampleArray]
    notes: tuple[str, ...] = ()
    divided: bool = False
    held: object = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format that samples may come in.

    Attributes
    ----------
    noun : str
        What the files are called in messages.
    suffixes : tuple of str
        That tell it.
    read : callable(Request) -> SampleData
        Reads files of the format.
    stands_apart : callable(files, Graph) -> bool
        Whether each of several files has samples of its own, and not inputs of the same samples.
    """

    noun: str
    suffixes: tuple[str, ...]
    read: Callable[[Request], SampleData]
    stands_apart: Callable[[Sequence[Path], Graph], bool] = lambda _files, _graph: True


def require_extra(module: str, extra: str, noun: str) -> ModuleType:
    """Import a package of an extra.

    Raises
    ------
    UsageError
        With the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(f"{noun} need {module.partition('.')[0]}: pip install 'onnxmi[{extra}]'") from error
