"""Folders of .wav files: whole sounds of one length, or windows of one."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxmi.data.calibration import SEQUENCES
from onnxmi.data.sources.request import Format, Request, SampleData
from onnxmi.data.stored import SampleWriter
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.model.batch_axis import is_free
from onnxmi.typing import Array

_WIDTHS: dict[int, tuple[np.dtype[Any], int, int]] = {
    1: (np.dtype(np.uint8), 128, 128),
    2: (np.dtype("<i2"), 0, 1 << 15),
    4: (np.dtype("<i4"), 0, 1 << 31),
}
"""Bytes an entry -> its type, what silence is, and the loudest."""


def _read(request: Request) -> SampleData:
    info = _sound_input(request)
    length = _length(request, info)
    writer, lengths, rates, mixed = SampleWriter(), set[int](), set[int](), 0
    owners: list[int] = []
    for number, path in enumerate(request.paths):
        sound, rate, channels = read_wave(path)
        _check_rate(path, rate, request.options.rate)
        rates.add(rate)
        mixed += channels > 1
        for window in _windows(sound, length):
            lengths.add(len(window))
            if len(lengths) > 1:
                raise UsageError(f"{path}: is not as long as the sounds before it; give --length for windows of one")
            owners.append(number)
            writer.add(window.reshape(1, *_middle(info), -1))
    if len(rates) > 1:
        shown = ", ".join(f"{rate:,} Hz" for rate in sorted(rates))
        raise CalibrationError(f"{request.source}: the sounds have several rates ({shown}); resample them to one")
    sounds = writer.array()
    notes = [f"{info.name}: {len(sounds):,} windows of {sounds.shape[-1]:,} entries at {rates.pop():,} Hz"]
    notes += [f"{info.name}: {mixed:,} files have several channels, whose mean is taken"] if mixed else []
    together = {SEQUENCES: np.array(owners)} if len(owners) > len(request.paths) else {}
    names = request.file_captions()
    captions = tuple(names[number] for number in owners)
    return SampleData({info.name: sounds, **together}, tuple(notes), captions=captions)


def _sound_input(request: Request) -> TensorInfo:
    floats = [i for i in request.graph.inputs if i.dtype is not None and i.dtype.kind == "f" and i.dims is not None]
    fitting = [info for info in floats if _takes_sounds(info.dims or ())]
    if len(fitting) != 1:
        names = ", ".join(repr(info.name) for info in fitting) or "none"
        raise CalibrationError(f"{request.source}: which input sounds are for is not clear: {names} could be")
    return fitting[0]


def _takes_sounds(dims: Sequence[int | str | None]) -> bool:
    """Whether an input has the sizes of sounds: (samples, entries), or with a single channel between."""
    return len(dims) in (2, 3) and all(is_free(dim) or dim == 1 for dim in dims[:-1])


def _middle(info: TensorInfo) -> tuple[int, ...]:
    """Sizes between the samples and the entries of a sound: none, or one channel."""
    return (1,) * (len(info.dims or ()) - 2)


def _length(request: Request, info: TensorInfo) -> int | None:
    fixed, asked = (info.dims or (None,))[-1], request.options.length
    if isinstance(fixed, int) and fixed > 0:
        if asked not in (None, fixed):
            raise UsageError(f"--length {asked}: {info.name!r} takes {fixed} entries")
        return fixed
    return asked


def read_wave(path: Path) -> tuple[Array, int, int]:
    """Read a sound.

    Returns
    -------
    (entries,) float32, int, int
        From -1 to 1, the mean of all channels; samples a second (Hz); and the number of channels.

    Raises
    ------
    CalibrationError
        If it cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise CalibrationError(f"{path}: cannot be read as a .wav file of whole numbers: {error}") from error
    if width == 3:  # numpy has no such type: to 4 bytes, the lowest of them 0
        padded = np.zeros((len(frames) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(frames, np.uint8)[: len(padded) * 3].reshape(-1, 3)
        frames, width = padded.tobytes(), 4
    dtype, silence, loudest = _WIDTHS[width]
    entries = (np.frombuffer(frames, dtype).astype(np.float64) - silence) / loudest
    return entries.reshape(-1, channels).mean(axis=1).astype(np.float32), rate, channels


def _check_rate(path: Path, rate: int, expected: int | None) -> None:
    if expected is not None and rate != expected:
        raise CalibrationError(f"{path}: has {rate:,} Hz, not {expected:,}; resample it first")


def _windows(sound: Array, length: int | None) -> Iterator[Array]:
    """Yield windows one after the other; a rest is left out, a shorter sound is filled with silence."""
    if length is None:
        yield sound
    elif len(sound) < length:
        yield np.pad(sound, (0, length - len(sound)))
    else:
        count = len(sound) // length
        yield from sound[: count * length].reshape(count, length)


SOUNDS = Format("sounds", (".wav",), _read)
