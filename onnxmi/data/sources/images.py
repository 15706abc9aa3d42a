"""Folders of images: decoded once, kept as bytes, and scaled to what the model takes batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxmi.data.sources.request import Format, Request, SampleData, require_extra
from onnxmi.data.stored import LARGE, ConvertedArray, SampleArray, SampleWriter
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.typing import Array

SHOWN = 3  # files that a message names
_BYTES = {1: "L", 3: "RGB"}  # Pillow's modes with 8 bits a channel, by the number of channels
_DEEP = ("I", "F")  # its modes with more than 8 bits, which would be cut off


@dataclass(frozen=True)
class ImageInput:
    """How a model takes images.

    Attributes
    ----------
    size : (int, int)
        Height and width.
    channels : int
        1 or 3.
    axes : tuple of int
        How (samples, height, width, channels) is transposed; without the channels where the input has no such axis.
    """

    size: tuple[int, int]
    channels: int
    axes: tuple[int, ...]


def _read(request: Request) -> SampleData:
    pillow = require_extra("PIL.Image", "images", "images")
    info = request.only_input((3, 4), "images")
    form = image_input(request, info)
    writer, unreadable = SampleWriter(), []
    for path in request.paths:
        try:
            writer.add(_decoded(pillow, path, form)[np.newaxis])
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            unreadable.append(f"{path.name} ({' '.join(str(error).split())[:80]})")
    if unreadable:
        more = f" and {len(unreadable) - SHOWN} others" if len(unreadable) > SHOWN else ""
        raise CalibrationError(f"{request.source}: cannot be read as images: {', '.join(unreadable[:SHOWN])}{more}")
    pixels = writer.array()
    height, width = form.size
    notes = (f"{info.name}: {len(pixels):,} images as {height} x {width}", _scaling(request, info))
    arrays = {info.name: _converted(pixels, form, request, info)}
    return SampleData(arrays, notes, captions=request.file_captions())


def image_input(request: Request, info: TensorInfo) -> ImageInput:
    """Return how the model takes images, from the options and the sizes that its input fixes."""
    dims = info.dims or ()
    axes: tuple[int, ...] = (0, 1, 2)
    layout = request.options.layout or _layout(dims)
    size, channels = dims[1:], 1
    if len(dims) == 4 and layout is None:
        raise UsageError(
            f"{request.source}: the model does not say where {info.name!r} has its channels: give --layout"
        )
    if len(dims) == 4:
        size, dim, axes = (dims[2:], dims[1], (0, 3, 1, 2)) if layout == "nchw" else (dims[1:3], dims[3], (0, 1, 2, 3))
        channels = dim if isinstance(dim, int) and dim > 0 else 3
    if channels not in _BYTES:
        raise CalibrationError(f"{request.source}: {info.name!r} has {channels} channels; images have 1 or 3")
    height, width = request.options.image or size
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise UsageError(f"{request.source}: the model takes images of any size: give --image, such as 224x224")
    return ImageInput((height, width), channels, axes)


def _layout(dims: tuple[int | str | None, ...]) -> str | None:
    if len(dims) != 4:
        return None
    return "nchw" if dims[1] in _BYTES else "nhwc" if dims[3] in _BYTES else None


def _decoded(pillow: Any, path: Path, form: ImageInput) -> Array:
    """Return (height, width, channels) bytes."""
    operations = require_extra("PIL.ImageOps", "images", "images")
    with pillow.open(path) as image:
        if image.mode.startswith(_DEEP):
            raise ValueError(f"{image.mode}: more than 8 bits a channel")
        upright = operations.exif_transpose(image).convert(_BYTES[form.channels])
        height, width = form.size
        resized = upright.resize((width, height), pillow.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.uint8).reshape(height, width, form.channels)


def _scaling(request: Request, info: TensorInfo) -> str:
    options = request.options
    scale = _scale(request, info)
    steps = [f"pixels times {scale:.4g}"] if scale != 1 else ["pixels from 0 to 255"]
    steps += [
        f"{verb} {', '.join(f'{n:g}' for n in numbers)}"
        for verb, numbers in (("minus", options.mean), ("divided by", options.std))
        if numbers
    ]
    return f"{info.name}: {', '.join(steps)}"


def _scale(request: Request, info: TensorInfo) -> float:
    whole = info.dtype is not None and info.dtype.kind in "iu"
    return request.options.scale or (1.0 if whole else 1 / 255)


def _converted(pixels: SampleArray, form: ImageInput, request: Request, info: TensorInfo) -> SampleArray:
    """Scale, transpose and cast; all at once where that is little."""
    options, dtype = request.options, info.dtype or np.dtype(np.float32)
    if {len(options.mean), len(options.std)} - {0, 1, form.channels}:
        raise UsageError(f"--mean and --std: expected 1 number or {form.channels}, one for each channel")
    mean, std = np.array(options.mean or (0.0,)), np.array(options.std or (1.0,))
    factor, offset = _scale(request, info) / std, -mean / std

    def convert(batch: Array) -> Array:
        plain = np.array_equal(factor, [1.0]) and not offset.any()
        scaled = batch if plain else (batch * factor.astype(np.float32) + offset.astype(np.float32))
        scaled = scaled[..., 0] if len(form.axes) == 3 else scaled
        return np.ascontiguousarray(scaled.transpose(form.axes).astype(dtype, copy=False))

    shape = convert(np.zeros((1, *pixels.shape[1:]), np.uint8)).shape
    if pixels.size * dtype.itemsize <= LARGE:
        return convert(np.asarray(pixels))
    return ConvertedArray(pixels, convert, (len(pixels), *shape[1:]), dtype)


IMAGES = Format("images", (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"), _read)
