"""Steps of long work: who counts them, and how the steps of a part are told as a share of one step of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from onnxmi.typing import Progress

T = TypeVar("T")


def counted(items: Sequence[T], name: str, progress: Progress) -> Iterator[T]:
    """Yield items, and report a stage that has one step for each: that it begins, and every step that ends.

    Parameters
    ----------
    items : sequence
        What is worked on; an item is done when the next one is asked for.
    name : str
        The stage.
    progress : callable
        Who is told.
    """
    progress(name, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        progress(name, done, len(items))


def as_share(progress: Progress, name: str, done: float, steps: float, total: float) -> Progress:
    """Return whom to tell of the stages inside of some steps of a stage: they count as a share of these steps.

    Parameters
    ----------
    progress : callable
        Who is told of the whole.
    name : str
        The stage of the whole.
    done, steps, total : float
        Steps of the whole: those that are done, those that the part is, and all.

    Notes
    -----
    A part that goes through several stages never goes back: what is told is the largest share so far.
    """
    largest = 0.0

    def advance(_: str, part: float, whole: float) -> None:
        nonlocal largest
        largest = max(largest, part / max(whole, 1))
        progress(name, done + steps * largest, total)

    return advance
