"""Zeroing weights while they are trained: by magnitude, or by scores that are learned with them.

Movement pruning (Sanh, Wolf and Rush 2020, arXiv:2005.07683): each weight has a score S, the forward pass uses W * M
with M the mask of the largest scores, and the gradient goes through the mask as if it were the identity, so that
dL/dS = dL/d(W * M) * W. Scores grow where weights move away from zero. Magnitude pruning is the same with S = |W|, on
the same schedule (gradual, cubic; Zhu and Gupta 2017), which is what that paper compares with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WARM_UP, COOL_DOWN = 0.1, 0.3  # shares of the steps before anything is zeroed, and after everything is


def scheduled(step: int, steps: int, final: float) -> float:
    """Sparsity at a step: none, then rising fast and ever slower, then the final one."""
    progress = (step / steps - WARM_UP) / (1 - WARM_UP - COOL_DOWN)
    return final * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


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
    """Masks of some parameters of a module.

    Attributes
    ----------
    whole : bool
        Scores compete over all parameters together; else each has the same share of zeros.
    """

    def __init__(self, module: nn.Module, names: list[str], learned: bool, whole: bool = False) -> None:
        super().__init__()
        self.whole = whole
        self._parameters_of = {name: module.get_parameter(name) for name in names}
        zeros = [nn.Parameter(torch.zeros_like(p)) for p in self._parameters_of.values()]
        self.scores = nn.ParameterList(zeros if learned else [])

    def masked(self, sparsity: float) -> dict[str, Tensor]:
        """Name -> weights times mask."""
        parameters = list(self._parameters_of.values())
        scores = list(self.scores) or [parameter.detach().abs() for parameter in parameters]
        if self.whole:
            together = StraightThrough.apply(torch.cat([score.flatten() for score in scores]), sparsity)
            parts = together.split([score.numel() for score in scores])
            masks = [part.view_as(score) for part, score in zip(parts, scores, strict=True)]
        else:
            masks = [StraightThrough.apply(score, sparsity) for score in scores]
        masked = (parameter * mask for parameter, mask in zip(parameters, masks, strict=True))
        return dict(zip(self._parameters_of, masked, strict=True))

    def settle(self, sparsity: float) -> None:
        """Write the zeros into the module."""
        with torch.no_grad():
            for name, value in self.masked(sparsity).items():
                self._parameters_of[name].copy_(value)
