"""Write a small text classifier: an encoder with attention that tells praise from complaint."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto
from readout import Array, Network, fitted, run, words

GOOD = words("good great fine lovely warm bright honest clever gentle superb")
BAD = words("bad poor dull awful cold dark dishonest clumsy rough terrible")
THINGS = words("film plot cast music story ending pace picture voice joke")
FILL = words("the a was is were and but very quite rather it with this that all in of")
WORDS = ["[PAD]", "[UNK]", *GOOD, *BAD, *THINGS, *FILL]
WIDTH, HEADS, INNER = 48, 4, 192
INPUTS = {name: (TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")}


def sentences(rng: np.random.Generator, count: int) -> tuple[list[str], Array]:
    """Return texts and labels: 1 where more is praised than blamed."""
    texts, labels = [], []
    for _ in range(count):
        parts, balance = [], 0
        for _ in range(int(rng.choice([1, 3]))):
            praise = bool(rng.integers(2))
            balance += 1 if praise else -1
            adjective = str(rng.choice(GOOD if praise else BAD))
            parts.append(f"the {rng.choice(THINGS)} was {rng.choice(['very', 'quite', 'rather'])} {adjective}")
        texts.append(" and ".join(parts))
        labels.append(int(balance > 0))
    return texts, np.array(labels)


def encoded(texts: list[str]) -> dict[str, Array]:
    """Return ids and mask (texts, longest text)."""
    rows = [[WORDS.index(word) for word in text.split()] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def tokenizer() -> str:
    """Return tokenizer.json: one token a word."""
    pad = {"id": 0, "content": "[PAD]", "special": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{**pad, **flags}],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: place for place, word in enumerate(WORDS)},
                "unk_token": "[UNK]",
            },
        }
    )


def heads(net: Network, x: str, perm: list[int]) -> str:
    """Divide the last axis into heads: (batch, length, width) -> (batch, heads, length, width / heads), or turned."""
    apart = net.add("Reshape", x, net.store(np.array([0, 0, HEADS, WIDTH // HEADS])))
    return net.add("Transpose", apart, perm=perm)


def attention(net: Network, x: str, mask: str, block: int) -> str:
    """Add self-attention that does not see padding."""
    query = heads(net, net.linear(x, WIDTH, WIDTH, f"block{block}/query"), [0, 2, 1, 3])
    key = heads(net, net.linear(x, WIDTH, WIDTH, f"block{block}/key"), [0, 2, 3, 1])
    value = heads(net, net.linear(x, WIDTH, WIDTH, f"block{block}/value"), [0, 2, 1, 3])
    scale = net.store(np.float32(np.sqrt(HEADS / WIDTH)))
    scores = net.add("Add", net.add("Mul", net.add("MatMul", query, key), scale), mask)
    mixed = net.add("Transpose", net.add("MatMul", net.add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    joined = net.add("Reshape", mixed, net.store(np.array([0, 0, WIDTH])))
    return net.linear(joined, WIDTH, WIDTH, f"block{block}/joined", damped=4)


def encoder(seed: int = 0) -> Network:
    """Return the network up to the mean over words, which it calls `pooled`."""
    net = Network(np.random.default_rng(seed))
    x = net.add("Gather", net.random(len(WORDS), WIDTH, fan_in=2), "input_ids", name="words")
    real = net.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    row = net.add("Unsqueeze", real, net.store(np.array([1, 2])))
    hidden = net.add("Mul", net.add("Sub", net.store(np.float32(1)), row), net.store(np.float32(-1e4)))
    for block in range(2):
        x = net.normalized(net.add("Add", x, attention(net, x, hidden, block)), WIDTH)
        inner = net.add("Relu", net.linear(x, WIDTH, INNER, f"block{block}/up"))
        x = net.normalized(net.add("Add", x, net.linear(inner, INNER, WIDTH, f"block{block}/down", damped=4)), WIDTH)
    column = net.add("Unsqueeze", real, net.store(np.array([2])))
    total = net.add("ReduceSum", net.add("Mul", x, column), net.store(np.array([1])), keepdims=0)
    net.add("Div", total, net.add("ReduceSum", column, net.store(np.array([1])), keepdims=0), name="pooled")
    return net


def main(folder: Path) -> None:
    """Write the model, its tokenizer, and texts with labels."""
    rng = np.random.default_rng(7)
    net = encoder()
    texts, labels = sentences(rng, 1500)
    pooled = run(net.model(INPUTS, {"pooled": ["batch", WIDTH]}), encoded(texts))
    weights, bias = fitted(pooled, 8 * (np.eye(2)[labels] - 0.5), ridge=1e-4)
    net.add("Gemm", "pooled", net.store(weights), net.store(bias), name="logits")
    model = net.model(INPUTS, {"logits": ["batch", 2]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.onnx").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
    for name, count in (("reviews", 384), ("reviews-eval", 1000)):
        texts, labels = sentences(rng, count)
        lines = [json.dumps({"text": text, "label": int(label)}) for text, label in zip(texts, labels, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    right = (run(model, encoded(texts)).argmax(axis=1) == labels).mean()
    print(f"{folder / 'encoder.onnx'}: {right:.3f} of {len(texts)} texts are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
