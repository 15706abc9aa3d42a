"""Samples written to a file, as users call it: what `onnxmi calib` does."""

from __future__ import annotations

from functools import partial
from typing import IO

from onnxmi.api.keywords import Names
from onnxmi.api.targets import check_target
from onnxmi.data.calibration import Calibration, arrays_of
from onnxmi.data.npz import write_archive
from onnxmi.data.random_samples import random_samples
from onnxmi.data.sources import CalibrationLike, read_samples
from onnxmi.errors import UsageError, stage
from onnxmi.model.load import as_path
from onnxmi.model.save import write_atomically
from onnxmi.runtime.synthetic import read_sizes
from onnxmi.transforms.analysis import ModelLike, as_model
from onnxmi.typing import AnyPath


@stage("samples")
def calib(
    model: ModelLike,
    samples: CalibrationLike | None = None,
    *,
    output: AnyPath | None = None,
    random: int | None = None,
    seed: int = 0,
    shape: Names = (),
    dim: Names = (),
) -> Calibration:
    """Read samples for a model, or make random ones for a first try, check them and write them.

    Parameters
    ----------
    model : path, onnx.ModelProto or Model
        The model.
    samples : path, mapping of arrays, iterable of mappings or what `onnxmi.source` returns
        As for `prune`. The only array need not have the name of the only input.
    output : path, optional
        An `.npz` file to write. Without it, nothing is written.
    random : int, optional
        Make so many samples of random numbers instead. They carry a mark, and every result says so.
    seed : int
        Of random samples.
    shape, dim : str or iterable of str
        Sizes of random samples: "x=1,512" for an input, "T=512" for a dynamic axis.

    Returns
    -------
    Calibration
        For any function that takes samples.

    Raises
    ------
    UsageError
        If there are both samples and a number of random ones, or neither.
    CalibrationError
        If the samples do not fit the model.

    Examples
    --------
    >>> data = onnxmi.calib("digits-mlp.onnx", random=50)
    >>> data.count, data.random, data.arrays["image"].shape
    (50, True, (50, 64))
    """
    source = as_model(model)
    if (samples is None) == (random is None):
        raise UsageError("give either samples or a number of random ones (--random N)")
    if random is not None and random < 1:
        raise UsageError(f"--random {random}: expected 1 or more")
    if random is not None:
        read = random_samples(source, random, seed, read_sizes(shape, dim))
    else:
        assert samples is not None
        read = read_samples(samples, source).paired(source.graph)
    checked = read.check(source.graph)
    if output is not None:
        path = as_path(output, "output")
        check_target(path, *filter(None, [source.path]))
        write_atomically(path, partial(_write, checked))
    return checked


def _write(samples: Calibration, stream: IO[bytes]) -> None:
    write_archive(stream, arrays_of(samples).items())
