"""Steps of long work: what is told, and when."""

from __future__ import annotations

from onnxmi.execution.steps import as_share, counted

Told = list[tuple[str, float, float]]


def test_a_stage_is_told_when_it_begins_and_after_every_step() -> None:
    told: Told = []
    for item in counted(("a", "b"), "rank", lambda *args: told.append(args)):
        told.append((item, -1, -1))
        if item == "a":
            continue  # a step that is cut short is a step
    assert told == [("rank", 0, 2), ("a", -1, -1), ("rank", 1, 2), ("b", -1, -1), ("rank", 2, 2)]


def test_the_stages_of_a_part_are_a_share_of_its_steps_and_never_go_back() -> None:
    told: Told = []
    part = as_share(lambda *args: told.append(args), "search", 3, 2, 8)
    for name, done, total in (("select", 0, 4), ("select", 2, 4), ("repair", 1, 4), ("repair", 4, 4), ("none", 0, 0)):
        part(name, done, total)
    assert told == [("search", at, 8) for at in (3, 4, 4, 5, 5)]
