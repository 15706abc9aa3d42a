"""Short fine-tuning, the same for every method: equal steps, AdamW, warm-up and linear decay, cross-entropy.

Sentences come in batches of like lengths, so that little is padding.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its own documentation's name)
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from trials.masks import Masker, scheduled
from trials.twin import Twin

SCORE_RATE = 1e-2  # of movement scores, as in its paper
HELD = 1000  # training samples that the learning rate is chosen on
POOL = 50  # batches whose samples are put in order of length together
MEAN, STD = 0.286, 0.353  # of Fashion-MNIST's pixels, as the models were trained


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

    def take(self, chosen: NDArray[np.int64]) -> tuple[list[Tensor], Tensor]:
        return [_batch(values, chosen) for values in self.inputs], torch.from_numpy(self.labels[chosen])

    def split(self) -> tuple[Samples, Samples]:
        """To train on, and to choose the learning rate on."""
        cut = len(self) - HELD
        parts = (slice(cut), slice(cut, None))
        first, last = (Samples(tuple(v[part] for v in self.inputs), self.labels[part]) for part in parts)
        return first, last


def _batch(values: Any, chosen: NDArray[np.int64]) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values[chosen])
    rows = [torch.tensor(values[i]) for i in chosen]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


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
    reader.enable_truncation(64)
    found = reader.encode_batch([rows[i][1] for i in chosen])
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    columns = tuple([getattr(one, fields[name]) for one in found] for name in inputs)
    return Samples(columns, np.array([int(rows[i][0]) for i in chosen]))


@dataclass(frozen=True)
class Budget:
    """What every method may spend."""

    steps: int
    rate: float
    batch: int = 32
    seed: int = 0


def train(twin: Twin, samples: Samples, budget: Budget, masker: Masker | None = None, sparsity: float = 0.0) -> None:
    """Fine-tune in place; what is masked stays zero at the end."""
    groups: list[dict[str, Any]] = [{"params": list(twin.parameters()), "lr": budget.rate}]
    if masker is not None and len(masker.scores):
        groups.append({"params": list(masker.scores.parameters()), "lr": SCORE_RATE})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    warm = max(1, budget.steps // 10)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (budget.steps - step) / (budget.steps - warm))
    )
    for step, chosen in enumerate(draws(samples.lengths, budget)):
        inputs, labels = samples.take(chosen)
        weights = {} if masker is None else masker.masked(scheduled(step, budget.steps, sparsity))
        loss = F.cross_entropy(functional_call(twin, weights, tuple(inputs)), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimiser.step()
        decay.step()
    if masker is not None:
        masker.settle(sparsity)


def draws(lengths: NDArray[np.int64], budget: Budget) -> Iterator[NDArray[np.int64]]:
    """Batches of like lengths in random order, each sample once before any comes again."""
    rng = np.random.default_rng(budget.seed)
    count, size = len(lengths), POOL * budget.batch
    order = np.concatenate([rng.permutation(count) for _ in range(budget.steps * budget.batch // count + 1)])
    order = order[: budget.steps * budget.batch]
    for pool in (order[start : start + size] for start in range(0, len(order), size)):
        batches = pool[np.argsort(lengths[pool], kind="stable")].reshape(-1, budget.batch)
        yield from batches[rng.permutation(len(batches))]


def accuracy(twin: Twin, samples: Samples, batch: int = 64) -> float:
    """Share of samples that are told right."""
    hits, order = 0, np.argsort(samples.lengths, kind="stable")
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            inputs, labels = samples.take(order[start : start + batch])
            hits += int((twin(*inputs).argmax(-1) == labels).sum())
    return hits / len(samples)
