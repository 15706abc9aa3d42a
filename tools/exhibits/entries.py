"""What is in the gallery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A model of the gallery.

    Attributes
    ----------
    name, title, what : str
        Of its page, and what it is.
    model : str
        Its name in tools/shipped/files.py; or a path in the repository; or a script of examples/ and what it writes.
    source : str
        Where it comes from.
    calibration : str
        What it is calibrated and judged on.
    arms : tuple of tuple of str
        Options of the runs.
    watch : str
        What to watch out for.
    """

    name: str
    title: str
    what: str
    model: str
    source: str
    calibration: str
    arms: tuple[tuple[str, ...], ...]
    watch: str


_LIST = (
    Entry(
        "cnn",
        "Pictures of clothes",
        "A convolutional classifier, 28 x 28 pixels, 10 classes.",
        "models/clothes-cnn",
        "bundled: `models/clothes-cnn.onnx`",
        "1,024 training images; judged on 4,000 test images with labels",
        ((), ("--speedup", "2")),
        "Nothing: this is the easy case. The network is wider than its task needs.",
    ),
    Entry(
        "encoder",
        "Praise or complaint",
        "A small text encoder with attention; its inner weights are random and its last layer is fitted.",
        "examples/tiny_encoder.py:encoder.onnx:reviews.jsonl:reviews-eval.jsonl",
        "made by `python examples/tiny_encoder.py FOLDER`",
        "384 texts; judged on 1,000 others with labels",
        ((), ("--macs", "70%")),
        "It is a toy. For a trained encoder (91 MB, SST-2) see [Quantize](../quantize.md) and "
        "[Claims](../claims.md); its file is in no "
        "package, so it cannot be fetched here.",
    ),
    Entry(
        "decoder",
        "The next letter",
        "A small causal decoder with attention; its inner weights are random and its last layer is fitted.",
        "examples/tiny_decoder.py:decoder.onnx:ids.npz:ids-eval.npz",
        "made by `python examples/tiny_decoder.py FOLDER`",
        "256 texts of 24 letters; judged on 400 others against the original",
        (("--macs", "80%"),),
        "It is a toy. Decoders of real sizes take hours and gigabytes: see [Decoders](../howto/decoders.md) and "
        "[scale](../scale.md).",
    ),
    Entry(
        "voice",
        "Is somebody speaking?",
        "Silero's voice activity detector: an LSTM with a state, a sequence a run.",
        "silero-16k-sequence",
        "silero-vad==6.2.3 on PyPI",
        "speech by espeak-ng, pauses and noise; judged on 60 s of fresh sound",
        ((), ("--speedup", "2")),
        "States must be real ones: chunks follow each other, and states are run on. `prune` times one chunk a run; "
        "what is heard in longer runs gains more, as the fixed cost of a run counts less. The other files of the "
        "package wrap the network in an If by sampling rate: give `--fix sr=16000`.",
    ),
    Entry(
        "angle",
        "Is this line upside down?",
        "PP-OCR's angle classifier, a MobileNetV3 of 0.6 MB.",
        "angle",
        "rapidocr-onnxruntime==1.4.4 on PyPI",
        "512 lines of text by Pillow, half of them turned; judged on 1,000 others",
        ((), ("--macs", "60%")),
        "A network that is small already: depthwise layers have few weights and much of the time, so cuts gain less"
        " time than work. Twice as "
        "fast costs far more than a point.",
    ),
    Entry(
        "file-type",
        "What type is this file?",
        "Google's magika: bytes to 214 types.",
        "magika",
        "magika==1.0.3 on PyPI",
        "768 files of the machine; judged on 1,024 others",
        ((), ("--macs", "90%")),
        "Many classes and few samples of most: coin flips between types count little, as answers weigh by their "
        "certainty.",
    ),
    Entry(
        "reader",
        "What does this line say?",
        "PP-OCR's recognizer: 6,625 characters at 40 positions and more, read by CTC.",
        "reader",
        "rapidocr-onnxruntime==1.4.4 on PyPI",
        "lines of text by Pillow; judged on fresh lines, read and compared",
        (("--macs", "80%"),),
        "Most positions are blanks, so agreement over positions hides errors: `characters` and `read-alike` count "
        "the text: two changed characters in a hundred change one line in seven. A run without options takes more than "
        "eight minutes of processor time.",
    ),
    Entry(
        "detector",
        "Where is what?",
        "NudeNet's YOLOv8n: 18 classes of boxes in pictures of 320 x 320.",
        "nudenet",
        "nudenet==3.4.2 on PyPI",
        "crops of photographs that scikit-image, scikit-learn and matplotlib ship; judged by matched boxes",
        ((),),
        "The photographs are not of its own kind. Boxes near the threshold come and go: look at the recall on your "
        "own pictures.",
    ),
)
ENTRIES = {entry.name: entry for entry in _LIST}
