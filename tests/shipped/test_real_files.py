"""The benchmark of shipped files: its judges see nothing but onnxruntime, and say what they should of known answers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the benchmark draws its inputs with pillow, which is not installed")

from shipped import angle, detector, file_type, notes, pruning, reader, sound, store, tables, text_map, voice
from shipped.family import Arrays, Request

TOOLS = Path(__file__).resolve().parent.parent.parent / "tools"


class Canned:
    """A model that knows its answers; all samples come in one batch."""

    def __init__(self, inputs: tuple[str, ...], **answers: np.ndarray) -> None:
        self.inputs, self.outputs = inputs, tuple(answers)
        self.answers = list(answers.values())

    def run(self, feeds: Arrays) -> list[np.ndarray]:
        return self.answers


@pytest.mark.parametrize("path", sorted([*TOOLS.glob("shipped/*.py"), TOOLS / "real_files.py"]), ids=lambda p: p.name)
def test_the_package_under_test_is_never_imported(path: Path) -> None:
    imported = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert not [name for name in imported if str(name).split(".")[0] == "onnxmi"]


def prediction(*boxes: tuple[float, float, float, float, int, float]) -> np.ndarray:
    """(1, 4 + 3, 11) of a detector of three classes: x, y, w, h, class, score."""
    output = np.zeros((1, 7, 11), dtype=np.float32)
    for place, (x, y, w, h, number, score) in enumerate(boxes):
        output[0, :4, place] = x, y, w, h
        output[0, 4 + number, place] = score
    return output


def test_detections_are_matched_after_suppression() -> None:
    before = prediction((10, 10, 8, 8, 0, 0.9), (10, 10, 8, 7, 0, 0.8), (40, 40, 9, 9, 2, 0.5), (70, 9, 5, 5, 1, 0.1))
    after = prediction((10, 10, 8, 8, 0, 0.6), (40, 40, 9, 9, 1, 0.5))
    groups = {"only": {"images": np.zeros((1, 3, 5, 5))}}
    figures = detector.judge(Canned(("images",), y=before), Canned(("images",), y=after), groups)
    assert figures == {"boxes": 2, "boxes_pruned": 2, "recall": 0.5, "precision": 0.5, "mean_iou": 1.0}


def test_a_detection_has_its_middle_and_its_sizes() -> None:
    found = detector.detections(prediction((10, 20, 8, 6, 2, 0.9))[0])
    assert (found.corners.tolist(), found.classes.tolist()) == ([[6, 17, 14, 23]], [2])


def test_boxes_of_a_text_map() -> None:
    before, after = np.zeros((2, 1, 1, 23, 29), dtype=np.float32)
    before[0, 0, 2:7, 3:11] = before[0, 0, 12:17, 5:19] = 0.9
    before[0, 0, 20:22, 3:9] = 0.9  # too low a part to count
    after[0, 0, 2:7, 3:9] = 0.4
    groups = {"only": {"x": np.zeros((1, 3, 23, 29))}}
    figures = text_map.judge(Canned(("x",), y=before), Canned(("x",), y=after), groups)
    assert figures == {"boxes": 2, "boxes_pruned": 1, "recall": 0.5, "precision": 1.0, "mean_iou": 0.75}


def test_lines_are_read_by_the_best_path() -> None:
    before = np.eye(4)[np.array([[1, 1, 0, 2, 3], [2, 0, 2, 0, 0], [1, 0, 0, 0, 0]])]
    after = np.eye(4)[np.array([[1, 0, 0, 2, 3], [2, 0, 0, 0, 0], [1, 0, 0, 0, 0]])]
    groups = {"only": {"x": np.zeros((3, 3, 5, 5)), "text": np.array(["a", "b", "c"])}}
    figures = reader.judge(Canned(("x",), y=before), Canned(("x",), y=after), groups)
    assert figures["read_alike"] == pytest.approx(2 / 3)
    assert figures["edit_rate"] == pytest.approx(1 / 6)
    assert figures["within_one_edit"] == 1.0


def test_turned_lines_are_known() -> None:
    before = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    after = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    groups = {"lines": {"x": np.zeros((4, 3, 5, 5)), "labels": np.array([0, 1, 0, 1])}}
    figures = angle.judge(Canned(("x",), y=before), Canned(("x",), y=after), groups)
    assert figures == {"lines": 4, "accuracy_original": 0.75, "accuracy": 0.75, "agreement": 0.5}


def test_types_count_apart_where_the_original_is_confident() -> None:
    before = np.array([[0.9, 0.1, 0.0], [0.4, 0.3, 0.3], [0.0, 0.2, 0.8]])
    after = np.array([[0.7, 0.3, 0.0], [0.3, 0.4, 0.3], [0.0, 0.3, 0.7]])
    groups = {"files": {"bytes": np.zeros((3, 7))}}
    figures = file_type.judge(Canned(("bytes",), y=before), Canned(("bytes",), y=after), groups)
    assert figures["same_type"] == pytest.approx(2 / 3)
    assert (figures["confident"], figures["same_where_confident"]) == (2, 1.0)


def test_each_map_of_notes_is_judged_apart() -> None:
    on, half, off = np.ones((1, 3)), np.array([[1.0, 0.0, 0.0]]), np.zeros((1, 3))
    names = tuple(notes.NAMES)
    before = Canned((notes.INPUT,), **dict(zip(names, (on, on, off), strict=True)))
    after = Canned((notes.INPUT,), **dict(zip(names, (half, on, off), strict=True)))
    figures = notes.judge(before, after, {"windows": {notes.INPUT: np.zeros((1, 7, 1))}})
    assert [figures[f"f1_{notes.NAMES[name]}"] for name in names] == [0.5, 1.0, 1.0]


def test_features_are_the_ends_without_blanks() -> None:
    row = file_type.features(b"  \n" + b"ab" + b"\t \n")
    assert row[:6].tolist() == [97, 98, 9, 32, 10, 256]
    assert row[-7:].tolist() == [256, 256, 32, 32, 10, 97, 98]
    long = file_type.features(bytes(range(33, 133)) * 50)
    assert (long[:1024] == np.resize(np.arange(33, 133), 1024)).all()
    assert long[-1] == 132


def test_chunks_overlap_by_their_context() -> None:
    sound = np.arange(3 * voice.CHUNK + 7) / 1e4
    rows = voice.chunks(sound)
    assert rows.shape == (3, voice.CONTEXT + voice.CHUNK)
    assert (rows[0, : voice.CONTEXT] == 0).all()
    assert (rows[2, : voice.CONTEXT] == rows[1, -voice.CONTEXT :]).all()
    assert rows[1, voice.CONTEXT] == np.float32(sound[voice.CHUNK])


class Counter:
    """A detector whose state counts the chunks, and which hears speech from the fourth on."""

    inputs, outputs = ("input", "sr", "state"), ("output", "stateN")

    def run(self, feeds: Arrays) -> list[np.ndarray]:
        heard = feeds["state"] + 1
        return [np.array([[0.9 if heard.flat[0] > 3 else 0.2]]), heard]


def test_the_state_goes_on() -> None:
    heard = voice.Listener(Counter()).listen(np.zeros((7, 576), dtype=np.float32))
    assert heard.tolist() == [0.2, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9]


def test_the_two_parts_share_no_text_and_no_numbers() -> None:
    before, after = (Request(Path("a.onnx"), part) for part in ("calibration", "fresh"))
    assert (before.deal([1, 2, 3, 4, 5]), after.deal([1, 2, 3, 4, 5])) == ([1, 3, 5], [2, 4])
    assert before.rng().random() != after.rng().random()
    assert before.rng().random() == before.rng().random()


def test_sound_keeps_its_pitch_at_another_rate() -> None:
    seconds, beats = 0.1, 440
    before, after = (np.sin(2 * np.pi * beats * np.arange(int(seconds * rate)) / rate) for rate in (22_050, 16_000))
    assert sound.resampled(before, 22_050, 16_000) == pytest.approx(after, abs=1e-9)


def test_groups_come_back_as_they_were_written(tmp_path: Path) -> None:
    groups = {
        "320x320": {"a/b:0": np.arange(6).reshape(2, 3)},
        "5": {"a/b:0": np.zeros((1, 7)), "text": np.array(["é"])},
    }
    store.write_groups(tmp_path / "x.npz", groups)
    read = store.read_groups(tmp_path / "x.npz")
    assert {group: {name: array.tolist() for name, array in arrays.items()} for group, arrays in read.items()} == {
        group: {name: array.tolist() for name, array in arrays.items()} for group, arrays in groups.items()
    }


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("default", ()),
        ("speedup2", ("--speedup", "2")),
        ("macs0.6", ("--macs", "0.6")),
        ("max-drop0.02", ("--max-drop", "0.02")),
    ],
)
def test_an_arm_is_an_option(arm: str, words: tuple[str, ...]) -> None:
    assert pruning.options(arm) == words


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="no arm 'fast'"):
        pruning.options("fast")


def test_a_run_says_what_it_took_and_ends_at_its_limit(tmp_path: Path) -> None:
    spent = pruning.run([sys.executable, "-c", "print('hm'); raise SystemExit(3)"], tmp_path / "log", 60.0)
    assert (spent.exit_code, spent.said) == (3, "hm\n")
    assert spent.peak_gib > 0
    stopped = pruning.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", 0.2)
    assert stopped.exit_code == pruning.TIMED_OUT


def test_the_table_has_the_last_run_of_each_arm() -> None:
    spent = {"wall_s": 9.6, "cpu_s": 4.4, "peak_gib": 0.5}
    figures = {
        "speedup": 1.5,
        "bytes_original": 2e6,
        "bytes_pruned": 1e6,
        "recall": 0.9,
        "precision": 0.8,
        "mean_iou": 0.7,
    }
    first = {"name": "nudenet", "arm": "default", "label": "new", **spent, "exit_code": -1, "said": ""}
    last = {**first, "exit_code": 0, "figures": figures}
    refused = {**first, "name": "angle", "exit_code": 1, "said": "a | b\nonnxmi: error: no\n"}
    lines = tables.table([first, last, refused]).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| angle | default | new | exit 1 | 10 (4) | 0.50 |  |  | no |"
    assert lines[3].endswith(
        "| exit 0 | 10 (4) | 0.50 | 2.00 -> 1.00 | 1.50x | recall 0.900, precision 0.800, mean iou 0.700 |"
    )
