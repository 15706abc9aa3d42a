"""The options of a pruning run, and what is wrong with some of them."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.errors import UsageError
from onnxmi.scoring import SCORERS
from onnxmi.select_channels import TARGETS


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes
    ----------
    keep : float
        Share of every layer's units that stays, above 0 and at most 1.
    score : str
        joint, pairwise, magnitude, wanda, variance or random.
    estimator : str
        gaussian, or binned for the pairwise score.
    repair : bool
        Refit the weights that lost inputs.
    cut : tuple of str
        Kinds of layers to cut; empty for channels, ffn, heads and hidden.
    skip, only : tuple of str
        Shell patterns of layer names to leave alone, or to cut and no others.
    seed : int
        For the division of the samples, the positions drawn and the random score.
    threads : int
        Intra-operator threads of onnxruntime; 0 lets it choose.
    batch_size : int
        Samples a run.
    mask : str or None
        The input that is zero at padding; without it, one with "mask" in its name.
    memory : int or None
        Bytes that what is measured in one pass may take; None for as much as it needs.
    target : str
        What layers right below the outputs are scored against: "outputs", or the calibration's "labels".
    latency : bool
        Measure both models' latency.
    """

    keep: float = 0.5
    score: str = "joint"
    estimator: str = "gaussian"
    repair: bool = True
    cut: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 0
    batch_size: int = 32
    mask: str | None = None
    memory: int | None = None
    target: str = "outputs"
    latency: bool = True

    def check(self) -> None:
        """Raise UsageError where options are out of range or contradict each other."""
        if not 0.0 < self.keep <= 1.0:
            raise UsageError(f"keep is {self.keep}; wanted: a share above 0 and at most 1")
        if (self.score, self.estimator) not in SCORERS:
            known = ", ".join(f"{score} with {estimator}" for score, estimator in SCORERS)
            raise UsageError(f"no score {self.score!r} with estimator {self.estimator!r}; there are: {known}")
        if self.batch_size < 1 or self.threads < 0 or self.seed < 0:
            raise UsageError("batch size must be 1 or more, threads and seed 0 or more")
        if self.target not in TARGETS:
            raise UsageError(f"no target {self.target!r}; there are: {', '.join(TARGETS)}")
