"""Texts as tokens: the arrays that a model of language takes, padded when a batch is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxmi.data.sources.request import Request, require_extra
from onnxmi.data.stored import LARGE, LazyArray, SampleArray, SampleWriter, take_samples
from onnxmi.errors import CalibrationError, UsageError
from onnxmi.model import TensorInfo
from onnxmi.model.batch_axis import is_free
from onnxmi.typing import Array, Ints, Samples

LONGEST = 512  # tokens, where neither the model nor the tokenizer has a limit
_PADS = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")  # what tokenizers call padding, if theirs does not say it

# What an input holds, by a piece of its name; the first that fits. Whatever else is whole numbers holds the tokens.
_ROLES = (("mask", "mask"), ("type", "types"), ("segment", "types"), ("position", "positions"), ("ids", "ids"))


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with the limits of a model.

    Attributes
    ----------
    encoder : tokenizers.Tokenizer
        Of the package.
    length : int
        Tokens that texts are cut to.
    fixed : int or None
        Tokens that the model takes, if it fixes them.
    pad : int
        The token that fills up.
    """

    encoder: Any
    length: int
    fixed: int | None
    pad: int

    @staticmethod
    def load(request: Request) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises
        ------
        CalibrationError
            If it cannot be read.
        UsageError
            If the model's size and `--length` contradict each other.
        """
        package = require_extra("tokenizers", "text", "texts")
        path = request.options.tokenizer
        try:
            encoder = package.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare exceptions
            raise CalibrationError(f"{path}: is not a readable tokenizer.json: {error}") from error
        padding, limit = encoder.padding or {}, encoder.truncation or {}
        encoder.no_padding()
        named = (token for name in _PADS if (token := encoder.token_to_id(name)) is not None)
        pad = int(padding.get("pad_id", next(named, 0)))
        fixed, asked = _fixed_length(request.graph.inputs), request.options.length
        if fixed is not None and asked is not None and asked > fixed:
            raise UsageError(f"--length {asked}: the model takes {fixed} tokens")
        length = asked or fixed or int(limit.get("max_length", LONGEST))
        encoder.enable_truncation(length)
        return Tokenizer(encoder, length, fixed, pad)

    def encode(self, texts: Sequence[Sequence[str]]) -> list[Any]:
        """Encode some texts, or pairs of them."""
        one = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
        return list(self.encoder.encode_batch(list(one)))


def _fixed_length(inputs: Sequence[TensorInfo]) -> int | None:
    sizes = {info.dims[1] for info in inputs if info.dims is not None and len(info.dims) == 2}
    fixed = [size for size in sizes if isinstance(size, int) and not is_free(size)]
    return fixed[0] if len(fixed) == 1 else None


class PaddedRows(LazyArray):
    """Rows of different lengths as one array, (rows, longest).

    Parameters
    ----------
    entries : (total,) array
        All rows, one after the other.
    lengths : (rows,) int64
        Of the rows.
    width : int
        Of the longest, or more.
    pad : int
        What fills up.
    """

    def __init__(self, entries: SampleArray, lengths: Ints, width: int, pad: int) -> None:
        self._entries, self._lengths, self._pad = entries, lengths, pad
        self._starts = np.cumsum(lengths) - lengths
        self.shape, self.dtype = (len(lengths), width), np.dtype(np.int64)

    def take(self, samples: Samples, axis: int = 0) -> Array:
        """Read some rows and fill them up."""
        if axis:
            return np.take(self.take(np.arange(len(self))), samples, axis)
        places = np.arange(self.shape[1])
        counted = places < self._lengths[samples, np.newaxis]
        rows = np.full((len(samples), self.shape[1]), self._pad, dtype=self.dtype)
        rows[counted] = take_samples(self._entries, (self._starts[samples, np.newaxis] + places)[counted])
        return rows


def token_arrays(
    request: Request, tokenizer: Tokenizer, chunks: Iterable[Sequence[Any]]
) -> tuple[dict[str, SampleArray], tuple[str, ...]]:
    """Return the arrays of all inputs that tokens have something for, and notes.

    Parameters
    ----------
    chunks : iterable of sequence of encodings
        What `Tokenizer.encode` returned.
    """
    ids, types, lengths = SampleWriter(), SampleWriter(), SampleWriter()
    for chunk in chunks:
        ids.add(np.array([token for one in chunk for token in one.ids], dtype=np.int32))
        types.add(np.array([token for one in chunk for token in one.type_ids], dtype=np.int32))
        lengths.add(np.array([len(one.ids) for one in chunk], dtype=np.int64))
    counts = np.asarray(lengths.array())
    width = tokenizer.fixed or max(int(counts.max()), 1)
    ones = np.ones(1, dtype=np.int32)
    entries: dict[str, tuple[SampleArray, int]] = {"ids": (ids.array(), tokenizer.pad), "types": (types.array(), 0)}
    arrays: dict[str, SampleArray] = {}
    for info in request.graph.inputs:
        role = role_of(info)
        if role in entries:
            arrays[info.name] = _small_at_once(PaddedRows(entries[role][0], counts, width, entries[role][1]))
        elif role == "mask":
            total = int(counts.sum())
            arrays[info.name] = _small_at_once(PaddedRows(np.broadcast_to(ones, (total,)), counts, width, 0))
        elif role == "positions":
            arrays[info.name] = np.broadcast_to(np.arange(width), (len(counts), width)).copy()
    cut = int((counts == tokenizer.length).sum())
    notes = [f"{len(counts):,} texts as {width} tokens"]
    notes += [f"{cut:,} texts have {tokenizer.length} tokens or were cut to that"] if cut else []
    return arrays, tuple(notes)


def role_of(info: TensorInfo) -> str | None:
    """Return what an input of a model of language holds, by its name: ids, mask, types, positions; None if nothing."""
    if info.dims is None or len(info.dims) != 2 or info.dtype is None or info.dtype.kind not in "iubf":
        return None
    role = next((role for piece, role in _ROLES if piece in info.name.lower()), "ids")
    return None if info.dtype.kind == "f" and role != "mask" else role


def _small_at_once(rows: LazyArray) -> SampleArray:
    return np.asarray(rows) if rows.nbytes <= LARGE else rows
