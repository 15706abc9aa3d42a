"""Short fine-tuning, the same for every method: equal steps, AdamW, warm-up and linear decay, cross-entropy.

Sentences come in batches of like lengths, so that little is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its own documentation's name)
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from trials.datasets import Samples
from trials.masks import Kept, Masker, scheduled, settle
from trials.twin import Twin

SCORE_RATE = 1e-2  # of movement scores, as in its paper
POOL = 50  # batches whose samples are put in order of length together


def tensors(samples: Samples, chosen: NDArray[np.int64]) -> tuple[list[Tensor], Tensor]:
    """Inputs and classes of some samples."""
    return [_batch(values, chosen) for values in samples.inputs], torch.from_numpy(samples.labels[chosen])


def _batch(values: Any, chosen: NDArray[np.int64]) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values[chosen])
    rows = [torch.tensor(values[i]) for i in chosen]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


@dataclass(frozen=True)
class Budget:
    """What every method may spend."""

    steps: int
    rate: float
    batch: int = 32
    seed: int = 0


def train(twin: Twin, samples: Samples, budget: Budget, masker: Masker | Kept | None = None) -> None:
    """Fine-tune in place; what is masked stays zero at the end."""
    groups: list[dict[str, Any]] = [{"params": list(twin.parameters()), "lr": budget.rate}]
    if masker is not None and len(masker.scores):
        groups.append({"params": list(masker.scores.parameters()), "lr": SCORE_RATE})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    warm = max(1, budget.steps // 10)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (budget.steps - step) / max(budget.steps - warm, 1))
    )
    for step, chosen in enumerate(draws(samples.lengths, budget)):
        inputs, labels = tensors(samples, chosen)
        weights = {} if masker is None else masker.masked(scheduled(step, budget.steps))
        loss = F.cross_entropy(functional_call(twin, weights, tuple(inputs)), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimiser.step()
        decay.step()
    if masker is not None:
        settle(twin, masker)


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
            inputs, labels = tensors(samples, order[start : start + batch])
            hits += int((twin(*inputs).argmax(-1) == labels).sum())
    return hits / len(samples)
