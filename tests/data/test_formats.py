"""Files and folders of samples in every format: what is read, and one line where it cannot be."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import onnxmi
from onnxmi.data import stored
from onnxmi.data.sources import as_calibration
from onnxmi.errors import UsageError
from onnxmi.model import Model
from tests.support.interfaces import taking, taking_types
from tests.support.sources import read, refused

RNG = np.random.default_rng(0)


# -- arrays -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1 << 26, 64], ids=["in memory", "on the disk"])
def large(request, monkeypatch):
    """Whether arrays of this size stay on the disk."""
    monkeypatch.setattr(stored, "LARGE", request.param)
    monkeypatch.setattr("onnxmi.data.npz.STAYS", request.param)
    monkeypatch.setattr("onnxmi.data.calibration.LARGE", request.param)
    monkeypatch.setattr("onnxmi.data.sources.images.LARGE", request.param)
    monkeypatch.setattr("onnxmi.data.sources.tokens.LARGE", request.param)
    return request.param == 64


def assert_holds(data, name, expected, axis=0):
    assert np.array_equal(np.asarray(data.arrays[name]), expected)
    assert data.arrays[name].dtype == expected.dtype
    for samples in (np.array([3, 1, 2, 2]), np.array([0]), np.arange(data.count)):
        assert np.array_equal(data.feed(samples)[name], np.take(expected, samples, axis))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_read(tmp_path, large, save):
    x = RNG.normal(size=(11, 7)).astype(np.float32)
    save(tmp_path / "c.npz", x=x)
    data = read(tmp_path / "c.npz", taking(x=("batch", 7)))
    assert isinstance(data.arrays["x"], stored.LazyArray) == large
    assert_holds(data, "x", x)


def test_an_array_is_read_and_has_the_fingerprints_of_the_archive(tmp_path, large):
    x = RNG.normal(size=(11, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "c.npz", x=x)
    model = taking(x=("batch", 7))
    data = read(tmp_path / "x.npy", model)
    assert_holds(data, "x", x)
    assert np.array_equal(data.fingerprints, read(tmp_path / "c.npz", model).fingerprints)


def test_bytes_become_floats_when_they_are_read(tmp_path, large):
    x = RNG.integers(0, 255, size=(11, 7), dtype=np.uint8)
    np.save(tmp_path / "any.npy", x)
    data = read(tmp_path / "any.npy", taking(x=("batch", 7)))
    assert_holds(data, "x", x.astype(np.float32))
    assert "x: cast from uint8 to float32" in data.notes


def test_arrays_named_as_the_inputs_are_read(tmp_path, large):
    x, z = RNG.normal(size=(2, 11, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "labels.npy", np.arange(11))
    data = read(tmp_path, taking(x=("batch", 7), z=("batch", 7)))
    assert_holds(data, "x", x)
    assert_holds(data, "z", z)
    assert np.array_equal(data.labels, np.arange(11))


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_shards_are_joined_in_the_order_of_their_names(tmp_path, large, kind):
    x = RNG.normal(size=(11, 7)).astype(np.float32)
    for name, part in (("b", x[3:5]), ("a", x[:3]), ("c", x[5:])):
        np.savez(tmp_path / f"{name}.npz", x=part) if kind == "npz" else np.save(tmp_path / f"{name}.npy", part)
    assert_holds(read(tmp_path, taking(x=("batch", 7))), "x", x)


def test_shards_are_joined_along_the_axis_of_samples(tmp_path, large):
    x, state = RNG.normal(size=(11, 5)).astype(np.float32), RNG.normal(size=(2, 11, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x[:4], state=state[:, :4])
    np.savez(tmp_path / "b.npz", x=x[4:], state=state[:, 4:])
    data = read(tmp_path, taking(x=("batch", 5), state=(2, "batch", 3)))
    assert_holds(data, "x", x)
    assert_holds(data, "state", state, axis=1)


def test_feeds_beyond_what_memory_may_hold_are_put_on_the_disk(large):
    x = RNG.normal(size=(11, 7)).astype(np.float32)
    data = as_calibration(({"x": one[np.newaxis]} for one in x), taking(x=("batch", 7)))
    assert isinstance(data.arrays["x"], stored.LazyArray) == large
    assert_holds(data, "x", x)


def test_values_on_the_disk_are_checked(tmp_path, large):
    x = np.zeros((11, 7), np.float32)
    x[7, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert "has 1 values that are NaN" in refused(tmp_path / "x.npy", taking(x=("batch", 7)))


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:20], lambda b: b"", lambda b: b + b"x"])
def test_a_damaged_array_is_one_line(tmp_path, damage):
    np.save(tmp_path / "x.npy", np.zeros((11, 7), np.float32))
    path = tmp_path / "x.npy"
    path.write_bytes(damage(path.read_bytes()))
    assert refused(path, taking(x=("batch", 7))).startswith(str(path))


def test_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    assert "holds Python objects" in refused(tmp_path / "x.npy", taking(x=("batch", 7)))


def test_a_file_that_is_shortened_meanwhile_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxmi.data.npz.STAYS", 64)
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((11, 7), np.float32))
    data = read(path, taking(x=("batch", 7)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(onnxmi.CalibrationError, match="has been shortened"):
        data.feed(np.arange(11))


def test_a_folder_of_two_formats_or_none_is_one_line(tmp_path):
    model = taking(x=("batch", 7))
    assert "has no file that is read" in refused(tmp_path, model)
    (tmp_path / "a.txt").write_text("text")
    np.save(tmp_path / "x.npy", np.zeros((3, 7), np.float32))
    assert "arrays (1) and tables or texts (1)" in refused(tmp_path, model)


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs pillow, of the extra images")
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = {name: RNG.integers(0, 255, size=(13, 17, 3), dtype=np.uint8) for name in ("b.png", "a.png", "c.bmp")}
    for name, array in pixels.items():
        image.fromarray(array).save(folder / name)
    (folder / ".thumbs.png").write_text("hidden")
    (folder / "notes.md").write_text("no image")
    return folder, np.stack([pixels[name] for name in sorted(pixels)])


MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.1, 0.3], np.float32)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_images_are_scaled_and_laid_out(photos, large, layout):
    folder, pixels = photos
    dims = ("batch", 3, 13, 17) if layout == "nchw" else ("batch", 13, 17, 3)
    data = read(folder, taking(x=dims), mean="0.5,0.4,0.3", std=(0.2, 0.1, 0.3))
    expected = (pixels / np.float32(255) - MEAN) / STD
    expected = expected.transpose(0, 3, 1, 2) if layout == "nchw" else expected
    assert np.allclose(np.asarray(data.arrays["x"]), expected, atol=1e-5)
    assert np.allclose(data.feed(np.array([2, 0]))["x"], expected[[2, 0]], atol=1e-5)
    assert data.notes == (
        "x: 3 images as 13 x 17",
        "x: pixels times 0.003922, minus 0.5, 0.4, 0.3, divided by 0.2, 0.1, 0.3",
    )


def test_a_model_that_takes_bytes_gets_them_as_they_are(photos):
    folder, pixels = photos
    data = read(folder, taking(np.uint8, x=(None, 13, 17, 3)))
    assert np.array_equal(data.arrays["x"], pixels)


def test_images_are_resized_and_turned_gray(photos):
    folder, _ = photos
    assert read(folder, taking(x=("batch", 1, "h", "w")), image="7x5").arrays["x"].shape == (3, 1, 7, 5)
    assert read(folder, taking(x=("batch", 7, 5))).arrays["x"].shape == (3, 7, 5)
    assert read(folder, taking(x=("batch", 3, "h", "w")), image=7).arrays["x"].shape == (3, 3, 7, 7)


def test_what_the_model_leaves_open_has_to_be_said(photos):
    folder, _ = photos
    assert "give --image" in refused(folder, taking(x=("batch", 3, "h", "w")))
    assert "give --layout" in refused(folder, taking(x=("batch", "c", "h", "w")), image="7x5")
    assert "expected 1 number or 3" in refused(folder, taking(x=("batch", 3, 7, 5)), mean="0.1,0.2")
    assert "expected a height and a width" in refused(folder, taking(x=("batch", 3, 7, 5)), image="large")
    assert "numbers other than 0" in refused(folder, taking(x=("batch", 3, 7, 5)), std="0")


def test_images_that_cannot_be_read_are_named(photos):
    folder, _ = photos
    for name in ("d.png", "e.jpg", "f.png", "g.png"):
        (folder / name).write_bytes(b"not an image")
    message = refused(folder, taking(x=("batch", 3, 13, 17)))
    assert "d.png" in message
    assert "f.png" in message
    assert "and 1 others" in message


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("PIL.Image", "a.png", "images"), ("tokenizers", "a.txt", "text"), ("pyarrow.parquet", "a.parquet", "parquet")],
)
def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, module, name, extra):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match=rf"pip install 'onnxmi\[{extra}\]'"):
        read(tmp_path / name, taking(x=("batch", 3, 7, 5)), tokenizer="tokenizer.json" if extra == "text" else None)


# -- texts and tables -------------------------------------------------------------------------------------------------

TEXTS = ["a b c", "b", "c a", "a a a a b"]


@pytest.fixture
def words(tmp_path):
    """A tokenizer of words: [PAD] is 0, a, b, c are 1, 2, 3, and [SEP] is 4."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers, of the extra text")
    vocabulary = {"[PAD]": 0, "a": 1, "b": 2, "c": 3, "[SEP]": 4, "[UNK]": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", 4)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def language_model(length="sequence"):
    return taking(
        np.int64,
        input_ids=("batch", length),
        attention_mask=("batch", length),
        token_type_ids=("batch", length),
    )


IDS = np.array([[1, 2, 3, 4, 0, 0], [2, 4, 0, 0, 0, 0], [3, 1, 4, 0, 0, 0], [1, 1, 1, 1, 2, 4]])


def write_texts(folder, form):
    path = folder / f"texts.{form}"
    if form == "txt":
        path.write_text("\n".join([*TEXTS, ""]), encoding="utf-8")
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps({"id": n, "body": t}) for n, t in enumerate(TEXTS)), encoding="utf-8")
    elif form == "csv":
        path.write_text("\n".join(["kind,text", *(f"k,{text}" for text in TEXTS)]), encoding="utf-8")
    else:
        arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra parquet")
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the extra parquet")
        parquet.write_table(arrow.table({"text": TEXTS, "n": [1, 2, 3, 4]}), path)
    return path


@pytest.mark.parametrize("form", ["txt", "jsonl", "csv", "parquet"])
def test_texts_become_tokens(tmp_path, words, large, form):
    data = read(write_texts(tmp_path, form), language_model(), tokenizer=words)
    assert_holds(data, "input_ids", IDS)
    assert_holds(data, "attention_mask", (IDS > 0).astype(np.int64))
    assert_holds(data, "token_type_ids", np.zeros_like(IDS))
    assert isinstance(data.arrays["input_ids"], stored.LazyArray) == large


def test_texts_are_filled_up_to_what_the_model_fixes_and_cut(tmp_path, words):
    path = write_texts(tmp_path, "txt")
    data = read(path, language_model(5), tokenizer=words)
    assert data.arrays["input_ids"].shape == (4, 5)
    assert "1 texts have 5 tokens or were cut to that" in data.notes
    assert read(path, language_model(), tokenizer=words, length=3).arrays["input_ids"].shape == (4, 3)
    assert "the model takes 5 tokens" in refused(path, language_model(5), tokenizer=words, length=7)


def test_pairs_of_texts_have_types(tmp_path, words):
    (tmp_path / "pairs.csv").write_text("one,two,label\na b,c,1\nc,b b,0\n")
    data = read(tmp_path / "pairs.csv", language_model(), tokenizer=words, columns="one,two", label_column="label")
    assert np.array_equal(data.arrays["input_ids"], [[1, 2, 4, 3, 4], [3, 4, 2, 2, 4]])
    assert np.array_equal(data.arrays["token_type_ids"], [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]])
    assert np.array_equal(data.labels, [1, 0])


def test_samples_are_known_by_their_text_or_file(tmp_path, words, photos):
    (tmp_path / "pairs.csv").write_text("one,two,label\na b,c,1\nc,b b,0\n")
    options = {"tokenizer": words, "columns": "one,two", "label_column": "label"}
    assert read(tmp_path / "pairs.csv", language_model(), **options).captions == ("a b / c", "c / b b")
    folder, _ = photos
    assert read(folder, taking(x=("batch", 3, 13, 17))).captions == ("a.png", "b.png", "c.bmp")
    np.save(tmp_path / "x.npy", np.zeros((11, 7), np.float32))
    assert read(tmp_path / "x.npy", taking(x=("batch", 7))).captions == ()


def test_a_long_text_is_known_by_its_beginning(tmp_path, words):
    (tmp_path / "long.txt").write_text("a b " * 1000)
    (caption,) = read(tmp_path / "long.txt", language_model(), tokenizer=words).captions
    assert 100 < len(caption) < 300
    assert caption.startswith("a b a b")


def test_positions_are_counted(tmp_path, words):
    model = taking(np.int64, input_ids=("batch", "s"), position_ids=("batch", "s"))
    data = read(write_texts(tmp_path, "txt"), model, tokenizer=words)
    assert np.array_equal(data.arrays["position_ids"], np.tile(np.arange(6), (4, 1)))


def test_what_is_wrong_with_texts_is_one_line(tmp_path, words):
    model = language_model()
    assert "texts need --tokenizer" in refused(write_texts(tmp_path, "txt"), model)
    (tmp_path / "two.csv").write_text("one,two\na,b\n")
    assert "give --column; there are: 'one', 'two'" in refused(tmp_path / "two.csv", model, tokenizer=words)
    assert "has no column 'three'" in refused(tmp_path / "two.csv", model, tokenizer=words, columns="three")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{broken\n')
    assert "line 2: is not JSON" in refused(tmp_path / "bad.jsonl", model, tokenizer=words)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    assert "is not UTF-8 text" in refused(tmp_path / "bad.txt", model, tokenizer=words)
    (tmp_path / "empty.csv").write_text("text\n")
    assert "has no rows" in refused(tmp_path / "empty.csv", model, tokenizer=words)
    (tmp_path / "odd.csv").write_text("text,n\na\n")
    assert "not 2 columns" in refused(tmp_path / "odd.csv", model, tokenizer=words)
    assert "not a readable tokenizer.json" in refused(tmp_path / "two.csv", model, tokenizer=tmp_path / "two.csv")


def test_columns_of_numbers_are_inputs(tmp_path):
    (tmp_path / "t.csv").write_text("x,z,y\n1.5,2,0\n3,4,1\n")
    proto = taking_types(x=(np.float32, ("N", 1)), z=(np.int64, ("N",)))
    data = read(tmp_path / "t.csv", Model.of(proto), label_column="y")
    assert np.array_equal(data.arrays["x"], np.array([[1.5], [3]], np.float32))
    assert np.array_equal(data.arrays["z"], [2, 4])
    assert np.array_equal(data.labels, [0, 1])


def test_all_columns_are_the_only_input(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    assert np.array_equal(read(tmp_path / "t.csv", taking(x=("N", 3))).arrays["x"], [[1, 2, 3], [4, 5, 6]])
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,three\n")
    assert "cannot be read as numbers" in refused(tmp_path / "t.csv", taking(x=("N", 3)))


def test_lists_in_a_parquet_file_are_arrays(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the extra parquet")
    x = RNG.normal(size=(7, 5)).astype(np.float32)
    parquet.write_table(arrow.table({"x": x.tolist()}), tmp_path / "t.parquet")
    assert np.array_equal(read(tmp_path / "t.parquet", taking(x=("N", 5))).arrays["x"], x)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert "is not a readable Parquet file" in refused(tmp_path / "bad.parquet", taking(x=("N", 5)))
