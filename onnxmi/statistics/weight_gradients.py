"""Gradients of the outputs by a linear operator's weights, sample by sample, with its inputs centered."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from onnxmi.graph.linear import Linear, feature_rows, output_rows, row_count
from onnxmi.operators.conv import ConvRows
from onnxmi.operators.patches import Window
from onnxmi.typing import Array, Floats

Gradients = NDArray[np.float32]


def weight_gradients(linear: Linear, activation: Array, gradient: Array, mean: Floats, fed: int) -> Iterator[Gradients]:
    """Sum (x - mean) g' over the rows of each sample.

    Parameters
    ----------
    activation : array
        What the operator reads.
    gradient : array
        Of the outputs by its results, of their shape.
    mean : (groups, K) float64
        Means of its input features: a refit moves the bias so that means stay.
    fed : int
        Samples in the batch.

    Yields
    ------
    (groups, K, M) float32
        Of one sample; of the whole batch at once where samples do not lie along the first axis. Signs of samples are
        independent, so squares of such a sum are the sums of squares in expectation.
    """
    # Where samples share an axis the sum is over all of them: no gradient of one sample alone exists.
    apart = activation.shape[0] == gradient.shape[0] == fed
    pairs = zip(np.split(activation, fed), np.split(gradient, fed), strict=True) if apart else [(activation, gradient)]
    for own, upper in pairs:
        window = linear.layout.window(linear.shape, own) if isinstance(linear.layout, ConvRows) else None
        if window is None or window.transposed:
            raw, sums = _multiplied(linear, own, upper)
        else:
            raw, sums = _convolved(linear, window, own, upper)
        # Sum (x - m) g' = sum x g' - m sum g': the rows are centered without a copy of them.
        yield raw - mean.astype(np.float32)[:, :, None] * sums[:, None, :]


def _multiplied(linear: Linear, activation: Array, gradient: Array) -> tuple[Gradients, Gradients]:
    """Return X' G, (groups, K, M), and the sums of G over rows, (groups, M)."""
    places = np.arange(row_count(linear, activation))
    features = feature_rows(linear, activation, places)
    upper = output_rows(linear, gradient, places, linear.groups)
    return np.matmul(features.swapaxes(1, 2), upper), upper.sum(1)


def _convolved(linear: Linear, window: Window, activation: Array, gradient: Array) -> tuple[Gradients, Gradients]:
    """Do the same without unfolding: a kernel entry sees the input through one strided slice."""
    samples, channels = activation.shape[:2]
    upper = np.concatenate(list(gradient.reshape(samples, linear.groups, -1, int(np.prod(window.places)))), axis=2)
    upper = np.ascontiguousarray(upper.swapaxes(1, 2))  # (groups, rows, M)
    padded = _padded(activation, window)
    entries = []
    # As many products as the kernel has entries, instead of a copy of the input for each of them.
    for offsets in product(*map(range, window.kernel)):
        part = padded[(slice(None), slice(None), *_slices(window, offsets))]
        part = part.reshape(samples, linear.groups, channels // linear.groups, -1)
        entries.append(np.matmul(np.concatenate(list(part), axis=2), upper))
    raw = np.stack(entries, axis=2)  # (groups, channels, kernel entries, M): features in the order of the weights
    return raw.reshape(linear.groups, -1, upper.shape[2]), upper.sum(1)


def _padded(activation: Array, window: Window) -> Array:
    """Zeros around the input, as far as any kernel entry reads."""
    reach = [
        (places - 1) * stride + (kernel - 1) * dilation + 1
        for places, stride, kernel, dilation in zip(
            window.places, window.strides, window.kernel, window.dilations, strict=True
        )
    ]
    # A window may end before the input does; what lies beyond is never read, but has to fit.
    shape = [max(n, size + before) for n, size, before in zip(reach, window.size, window.before, strict=True)]
    padded = np.zeros((*activation.shape[:2], *shape), activation.dtype)
    inner = (slice(before, before + size) for before, size in zip(window.before, window.size, strict=True))
    padded[(slice(None), slice(None), *inner)] = activation
    return padded


def _slices(window: Window, offsets: tuple[int, ...]) -> Iterator[slice]:
    for offset, places, stride, dilation in zip(offsets, window.places, window.strides, window.dilations, strict=True):
        start = offset * dilation
        yield slice(start, start + (places - 1) * stride + 1, stride)
