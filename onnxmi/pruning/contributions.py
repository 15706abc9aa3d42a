"""What pruning and what 8 bits contributed to a result: the original, the pruned float model and the 8-bit one."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.evaluation.judgement import Judgement, judge
from onnxmi.model.external_data import byte_size
from onnxmi.pruning.execute import Candidate
from onnxmi.pruning.session import PruningSession
from onnxmi.quantization.recipe import HALF
from onnxmi.runtime.timing import Latency

Times = tuple[Latency, Latency]
"""Of the original and of another model, measured in turn."""


@dataclass(frozen=True, eq=False)
class Contribution:
    """One model on the way from the original to the result.

    Attributes
    ----------
    name : str
        "original", "pruned", and "pruned, 8-bit", "pruned, 4-bit" or "pruned, float16".
    size : int
        Bytes of its file with external data.
    damage : float
        Of all outputs on the test samples, against the original.
    value : float
        The metric that decides, on the same samples.
    latency : tuple of two Latency, or None
        Of the original and of this model; None where that was not measured, or is the original.
    """

    name: str
    size: int
    damage: float
    value: float
    latency: Times | None = None

    @property
    def speedup(self) -> float | None:
        """Times as fast as the original."""
        return None if self.latency is None else self.latency[1].speedup_over(self.latency[0])


def contributions(
    session: PruningSession, candidate: Candidate, judgement: Judgement, latency: Times | None
) -> tuple[Contribution, ...]:
    """Measure the three models; nothing where the result is float.

    Parameters
    ----------
    judgement : Judgement
        Of the 8-bit model on the test samples.
    latency : tuple of two Latency, or None
        Of the original and the 8-bit model, where a goal was judged by them.
    """
    if candidate.quantized is None:
        return ()
    pruned = judge(session.test_set, session.metric, candidate.proto)
    timed = session.options.latency
    times = (session.time(candidate.proto), latency or session.time(candidate.quantized)) if timed else (None, None)
    return (
        Contribution("original", byte_size(session.source.proto), 0.0, judgement.decisive.was),
        Contribution("pruned", byte_size(candidate.proto), pruned.damage.total, pruned.decisive.now, times[0]),
        Contribution(
            _quantized_name(candidate),
            byte_size(candidate.quantized),
            judgement.damage.total,
            judgement.decisive.now,
            times[1],
        ),
    )


_STORED = {"weights": "4-bit", HALF: "float16"}  # mode of a recipe -> what most numbers are


def _quantized_name(candidate: Candidate) -> str:
    recipe = candidate.plan.quantization
    return f"pruned, {'8-bit' if recipe is None else _STORED.get(recipe.mode, '8-bit')}"
