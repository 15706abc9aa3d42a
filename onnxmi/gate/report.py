"""What a gate found."""

from __future__ import annotations

from dataclasses import dataclass

from onnxmi.evaluation.comparison import OutputLoss
from onnxmi.gate.limits import Verdict


@dataclass(frozen=True)
class Report:
    """What a gate found: every check on a model, what is lost of each output, and what else is to be known.

    `steps` has the same of models on the way there, whose verdicts do not count.
    """

    model: str
    baseline: str | None
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    outputs: tuple[OutputLoss, ...] = ()
    steps: tuple[Report, ...] = ()

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The checks that failed."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def passed(self) -> bool:
        """Whether all passed."""
        return not self.failed
