"""What one operator's regression needs, from all batches: moments, and the rows themselves before an activation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import sqrt

import numpy as np

from onnxmi.information import Missing, MomentAccumulator, NotFiniteError
from onnxmi.repair.behind_activation import ActivatedRows, rows_refined
from onnxmi.repair.epilogue import Epilogue
from onnxmi.repair.operator_cut import OperatorCut, inverse
from onnxmi.repair.recorded import OriginalRows
from onnxmi.repair.regression import Regression
from onnxmi.repair.samples import VALIDATION
from onnxmi.typing import Array, Floats

GOLDEN_RATIO = (1 + sqrt(5)) / 2
HELD = 1.5  # times as many rows as a refinement takes are held
WIDEST_IN_FOLDS = 2_048  # inputs and outputs of an operator: each part takes moments, and solutions, of its own


class Measured:
    """Both models' rows at one operator, batch by batch."""

    def __init__(self, operator_cut: OperatorCut, epilogue: Epilogue, priors: Sequence[Floats]) -> None:
        """`priors` are weights (S, M) of each kept group: what they miss is measured, and a ridge shrinks to them."""
        self._frame, self._epilogue, self._priors = operator_cut, epilogue, priors
        self._scale, self._offset = operator_cut.kept(epilogue.scale), operator_cut.kept(epilogue.offset)
        self._sums: dict[int, MomentAccumulator] = {}
        self._rows = {False: _Rows(), True: _Rows()}
        self._whole = (
            operator_cut.linear.features + operator_cut.linear.outputs.size // operator_cut.linear.groups
            > WIDEST_IN_FOLDS
        )
        self._trouble: NotFiniteError | None = None

    def add(self, original: OriginalRows, cut: Array, added_to: Array | None) -> None:
        """Take in one batch.

        Parameters
        ----------
        original : OriginalRows
            What the operator gives in the original.
        cut : array
            The operator's activation in the cut model.
        added_to : array or None
            What its result is added to there.
        """
        part, places, kind = original.part, original.places, original.results.dtype
        stream = None
        if original.stream is not None and added_to is not None:
            stream = self._frame.stream(original.stream, added_to, places, original.shape)
        # The target is what the operator itself has to give, so the epilogue's scale is divided out.
        undo = inverse(self._scale).astype(kind)
        # What earlier repairs left wrong in the stream, this operator can make up for, as both are added.
        stream_error = None if stream is None else (stream[0] - stream[1]) * undo
        inputs, targets = self._frame.targets(original.results, cut, places, stream_error)
        # Wide operators take one sum for all folds: the validation samples are part -1 and stay apart.
        sums = self._sums.setdefault(min(part, 0) if self._whole else part, MomentAccumulator())
        try:
            sums.update(self._frame.joined(inputs, targets, self._priors))
        except NotFiniteError as error:
            self._trouble = error  # the other batches have to advance all the same
        if self._epilogue.activation is not None:
            level = self._offset.astype(kind) + (0 if stream is None else stream[1])
            self._rows[part == VALIDATION].add(inputs, targets, level.astype(kind))

    @property
    def reached(self) -> bool:
        """Whether any fit samples reach the operator."""
        return any(part != VALIDATION for part in self._sums)

    def regressions(self) -> list[Regression]:
        """One for each kept group. Raises NotFiniteError."""
        if self._trouble is not None:
            raise self._trouble
        # Sorted, so that folds are added up in the same order whatever batch came first.
        moments = {part: sums.moments() for part, sums in sorted(self._sums.items())}
        validation = moments.pop(VALIDATION, None)
        return [
            Regression(
                tuple(Missing.of_joint(one.group(group), len(features)) for one in moments.values() if one.count),
                None if validation is None else Missing.of_joint(validation.group(group), len(features)),
                self._frame.plain(group),
                self._priors[group],
            )
            for group, features in enumerate(self._frame.features)
        ]

    def activated(self, group: int, *, of_validation: bool) -> ActivatedRows | None:
        """The rows themselves, where the result goes through an activation."""
        joined = self._rows[of_validation and VALIDATION in self._sums].joined
        if joined is None or self._epilogue.activation is None:
            return None
        inputs, targets, level = (rows[group] for rows in joined)
        return ActivatedRows(inputs, targets, self._scale[group].astype(inputs.dtype), level, self._epilogue.activation)


class _Rows:
    """Rows of all batches: inputs, targets and levels, (groups, rows, S or M) each.

    Of many, half are dropped again and again, so that what is held does not grow with the samples. Which ones, their
    numbers times the golden ratio say: rows of images follow each other in a period, and every second one would always
    be of the same columns.
    """

    def __init__(self) -> None:
        self._batches: tuple[list[Array], ...] = ([], [], [])
        self._places: list[Floats] = []  # of the rows that are held: their numbers times the golden ratio, modulo one
        self._share, self._seen = 1.0, 0

    def add(self, inputs: Array, targets: Array, level: Array) -> None:
        """Take in a batch."""
        places = np.modf(np.arange(self._seen, self._seen + inputs.shape[1]) * GOLDEN_RATIO)[0]
        self._seen += inputs.shape[1]
        chosen = places < self._share
        self._places.append(places[chosen])
        broadcast = np.broadcast_to(level, targets.shape)
        for own, array in zip(self._batches, (inputs, targets, broadcast), strict=True):
            # A copy of what is kept of a batch lets go of the rest.
            own.append(array if chosen.all() else array[:, chosen])
        while sum(map(len, self._places)) > HELD * rows_refined(inputs.shape[-1]):
            self._share /= 2
            kept = np.concatenate(self._places) < self._share
            self._places = [np.concatenate(self._places)[kept]]
            for own in self._batches:
                own[:] = [np.concatenate(own, axis=1)[:, kept]]

    @cached_property
    def joined(self) -> tuple[Array, Array, Array] | None:
        """All rows in one array of each; the batches are let go one kind after the other, as they take much memory."""
        if not self._batches[0]:
            return None
        joined = []
        for own in self._batches:
            joined.append(np.concatenate(own, axis=1))
            own.clear()
        inputs, targets, level = joined
        return inputs, targets, level
