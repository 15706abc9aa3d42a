"""Zeroing weights while they are trained: by magnitude, or by scores that are learned with them.

Movement pruning (Sanh, Wolf and Rush 2020, arXiv:2005.07683): each weight has a score S, the forward pass uses W * M
with M the mask of the largest scores, and the gradient goes through the mask as if it were the identity, so that
dL/dS = dL/d(W * M) * W. Scores grow where weights move away from zero. Magnitude pruning is the same with S = |W|, on
the same schedule (gradual, cubic; Zhu and Gupta 2017), which is what that paper compares with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP, COOL_DOWN = 0.1, 0.3  # shares of the steps before anything is zeroed, and after everything is


def scheduled(step: int, steps: int) -> float:
    """Part of the final zeros at a step: none, then rising fast and ever slower, then all."""
    progress = (step / steps - WARM_UP) / (1 - WARM_UP - COOL_DOWN)
    return 1 - (1 - min(max(progress, 0.0), 1.0)) ** 3


def top_mask(scores: Tensor, sparsity: float) -> Tensor:
    """1.0 for all but a share of the smallest scores, which are 0.0."""
    mask = torch.ones(scores.numel())
    drop = round(sparsity * scores.numel())
    if drop:
        mask[scores.detach().flatten().topk(drop, largest=False, sorted=False).indices] = 0.0
    return mask.view_as(scores)


class StraightThrough(torch.autograd.Function):
    """The mask of some scores, whose gradient is that of the mask."""

    @staticmethod
    def forward(_context: Any, scores: Tensor, sparsity: float) -> Tensor:
        return top_mask(scores, sparsity)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Masker(nn.Module):
    """Masks of some parameters of a module, by magnitudes or by scores that are learned.

    Attributes
    ----------
    shares : dict
        Name of a parameter -> the share of zeros at the end.
    whole : bool
        Scores compete over all parameters together.
    """

    def __init__(self, module: nn.Module, shares: Mapping[str, float], learned: bool, whole: bool = False) -> None:
        super().__init__()
        self.shares, self.whole = dict(shares), whole
        self._parameters_of = {name: module.get_parameter(name) for name in shares}
        zeros = [nn.Parameter(torch.zeros_like(p)) for p in self._parameters_of.values()]
        self.scores = nn.ParameterList(zeros if learned else [])

    def masked(self, ramp: float) -> dict[str, Tensor]:
        """Name -> weights times mask, with this part of the zeros that there are at the end."""
        parameters = list(self._parameters_of.values())
        scores = list(self.scores) or [parameter.detach().abs() for parameter in parameters]
        if self.whole:
            sizes = [score.numel() for score in scores]
            share = sum(s * n for s, n in zip(self.shares.values(), sizes, strict=True)) / sum(sizes)
            together = StraightThrough.apply(torch.cat([score.flatten() for score in scores]), ramp * share)
            parts = together.split(sizes)
            masks = [part.view_as(score) for part, score in zip(parts, scores, strict=True)]
        else:
            shares = self.shares.values()
            masks = [StraightThrough.apply(score, ramp * s) for score, s in zip(scores, shares, strict=True)]
        masked = (parameter * mask for parameter, mask in zip(parameters, masks, strict=True))
        return dict(zip(self._parameters_of, masked, strict=True))


class Kept(nn.Module):
    """Masks of what is not zero in the first place."""

    def __init__(self, module: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.scores = nn.ParameterList()
        self._parameters_of = {name: module.get_parameter(name) for name in names}
        self._masks = {name: (p.detach() != 0).to(p.dtype) for name, p in self._parameters_of.items()}

    def masked(self, _ramp: float) -> dict[str, Tensor]:
        """Name -> weights times mask."""
        return {name: parameter * self._masks[name] for name, parameter in self._parameters_of.items()}


def settle(module: nn.Module, masker: Masker | Kept) -> None:
    """Write the zeros of the end into a module."""
    with torch.no_grad():
        for name, value in masker.masked(1.0).items():
            module.get_parameter(name).copy_(value)
