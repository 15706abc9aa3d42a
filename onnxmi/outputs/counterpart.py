"""The same outputs in two models whose inner tensors may have other names, or may be other ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from onnxmi.errors import UsageError
from onnxmi.outputs.view import Answers, Meaning, View


@dataclass(frozen=True)
class Counterpart:
    """What is compared of two models.

    Attributes
    ----------
    meaning : Meaning
        Of the first model, with what the second has nothing like compared at the graph output.
    names : mapping of str to str
        Tensor of the first model -> that of the second.
    """

    meaning: Meaning
    names: Mapping[str, str]

    @property
    def other(self) -> Meaning:
        """The same in the second model."""
        views = tuple(replace(view, tensor=self.names[view.tensor]) for view in self.meaning.views)
        return replace(self.meaning, views=views)

    def renamed(self, answers: Answers) -> Answers:
        """Return the second model's answers under the names of the first."""
        own = {name: answers.values[other] for name, other in self.names.items() if other in answers.values}
        return Answers(answers.count, {**answers.values, **own})


def counterpart(first: Meaning, second: Meaning, ranks: Mapping[str, int]) -> Counterpart:
    """Find what two models' outputs have in common.

    Tensors before a last Softmax or in front of a last Concat are compared where both models have such ones. Otherwise
    the graph output is, which both have.

    Parameters
    ----------
    first, second : Meaning
        Of the two models.
    ranks : mapping of str to int
        Number of axes of each graph output that is a float tensor.

    Raises
    ------
    UsageError
        If an output is none, and there is nothing to compare behind it.
    """
    partners = {view.name: view for view in second.views}
    alike = {view.name for view in first.views if _same(view, partners.get(view.name))}
    torn = {view.output for view in first.views if view.name not in alike}  # all parts, or the whole
    views, names = [], {}
    for view in first.views:
        if view.output not in torn:
            views.append(view)
            names[view.tensor] = partners[view.name].tensor
    for view in _whole(first, torn, ranks):
        views.append(view)
        names[view.tensor] = view.output
    order = [view.output for view in first.views]
    return Counterpart(replace(first, views=tuple(sorted(views, key=lambda view: order.index(view.output)))), names)


def _same(view: View, partner: View | None) -> bool:
    if partner is None:
        return False
    return all(
        getattr(view, name) == getattr(partner, name) for name in ("output", "link", "axes", "sample_axis", "columns")
    )


def _whole(meaning: Meaning, outputs: Collection[str], ranks: Mapping[str, int]) -> Iterator[View]:
    """Yield a view of each output as a whole."""
    for output in outputs:
        parts = [view for view in meaning.views if view.output == output]
        if output not in ranks:
            raise UsageError(
                f"output {output!r} cannot be compared: it is not a float tensor, and the model computes it from"
                f" other tensors than the baseline; leave it out with --ignore-output {output}"
            )
        axes = parts[0].axes if all(axis < ranks[output] for axis in parts[0].axes) else ()
        yield View(
            name=output,
            output=output,
            tensor=output,
            kind=parts[0].kind,
            link="identity",
            axes=axes,
            sample_axis=parts[0].sample_axis,
            weight=sum(part.weight for part in parts),
            why="the models differ before it",
            columns=parts[0].columns,
            tentative=parts[0].tentative,
        )
