"""How every cut of a model is quantized."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.quantization.recipe import Recipe


@dataclass(frozen=True)
class Precision:
    """How every cut of a model is quantized, and what that saved where it was tried.

    Attributes
    ----------
    recipe : Recipe
        Without ranges of activations, which each cut has its own of; or with those that a plan has.
    size : float
        What the 8-bit model took of the float model's bytes.
    """

    recipe: Recipe
    size: float = 1.0
