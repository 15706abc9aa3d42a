"""The training sets of the models that methods are compared on."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD = 1000  # training samples that the learning rate is chosen on
MEAN, STD = 0.286, 0.353  # of Fashion-MNIST's pixels, as the models were trained
LONGEST = 64  # tokens


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs in the order of the graph's, padded ones as lists of rows of their own lengths, and classes."""

    inputs: tuple[Any, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of the rows of the first input; all alike in an array."""
        return np.array([len(row) for row in self.inputs[0]], np.int64)

    def __getitem__(self, part: slice) -> Samples:
        return Samples(tuple(values[part] for values in self.inputs), self.labels[part])

    def split(self) -> tuple[Samples, Samples]:
        """To train on, and to choose the learning rate on."""
        return self[:-HELD], self[-HELD:]


def training_set(name: str, data: Path, folder: Path, inputs: tuple[str, ...]) -> Samples:
    """What a model of the folder was trained on, given the names of its inputs."""
    if name.startswith("fashion"):
        return fashion(data)
    return sentences(data, folder / f"{name}-hf", inputs)


def fashion(data: Path) -> Samples:
    """20,000 training images, as the models want them."""
    stored = np.load(data / "fashion.npz")
    images = (stored["x_train"][:, None].astype(np.float32) / 255 - MEAN) / STD
    return Samples((images.astype(np.float32),), stored["y_train"].astype(np.int64))


def sentences(data: Path, tokenizer: Path, inputs: tuple[str, ...]) -> Samples:
    """SST-2's training set, in random order."""
    from tokenizers import Tokenizer

    with gzip.open(data / "sst2.train.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row[0] in ("0", "1")]
    chosen = np.random.default_rng(0).permutation(len(rows))
    reader = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    reader.no_padding()
    reader.enable_truncation(LONGEST)
    found = reader.encode_batch([rows[i][1] for i in chosen])
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    columns = tuple([getattr(one, fields[name]) for one in found] for name in inputs)
    return Samples(columns, np.array([int(rows[i][0]) for i in chosen]))


def stacked(values: Any) -> NDArray[Any]:
    """Rows of their own lengths as one array, zeros behind the short ones."""
    if isinstance(values, np.ndarray):
        return values
    made = np.zeros((len(values), max(map(len, values))), np.int64)
    for row, value in zip(made, values, strict=True):
        row[: len(value)] = value
    return made
