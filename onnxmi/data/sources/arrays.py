"""Arrays in files: one archive or many, one array or one for each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxmi.data.calibration import LABELS
from onnxmi.data.npz import open_archive, open_array
from onnxmi.data.sources.feeds import put_together
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.stored import SampleArray
from onnxmi.errors import CalibrationError
from onnxmi.model import Graph


def _archives(request: Request) -> SampleData:
    if len(request.paths) == 1:
        return SampleData(open_archive(request.paths[0]))
    shards = ((str(path), open_archive(path)) for path in request.paths)
    return SampleData(put_together(shards, request.graph, str(request.source), request.options.sample_axis))


def _arrays(request: Request) -> SampleData:
    """Read one array for each input, by the names of the files; or shards of the only input."""
    inputs = [info.name for info in request.graph.inputs]
    if not _shards_of_one(request.paths, request.graph):
        return SampleData({path.stem: open_array(path) for path in request.paths})
    if len(inputs) != 1:
        names = ", ".join(f"{name}.npy" for name in inputs)
        raise CalibrationError(f"{request.source}: arrays for several inputs have their names: {names} in a folder")
    shards = ((str(path), _shard(inputs[0], open_array(path))) for path in request.paths)
    return SampleData(put_together(shards, request.graph, str(request.source), request.options.sample_axis))


def _shards_of_one(paths: Sequence[Path], graph: Graph) -> bool:
    """Whether files are not named as the inputs and labels."""
    names = {LABELS, *(info.name for info in graph.inputs)}
    named = [path for path in paths if path.stem in names]
    return len(named) < len(paths) or all(path.stem == LABELS for path in named)


def _shard(name: str, array: SampleArray) -> Mapping[str, SampleArray]:
    return {name: array}


ARCHIVES = Format("archives", (".npz",), _archives)
ARRAYS = Format("arrays", (".npy",), _arrays, _shards_of_one)
