"""The models that methods are compared on, and how one result is judged: by files that no method has seen."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxmi.data.calibration import Calibration, load_calibration
from onnxmi.evaluation.quality import compare
from onnxmi.graph.padding_mask import packed
from onnxmi.model import Model, load
from onnxmi.pruning.collect import measure_statistics
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession, start_session
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.runtime.timing import RELOAD, Latency, measure_latency
from trials.datasets import Samples, stacked, training_set

# What of each model is cut; the kinds that a prune without --cut takes, where nothing is said.
CUTS: dict[str, tuple[str, ...]] = {"sst2-minilm": ("heads", "ffn")}
BATCH = 32
TURNS = 2000  # of timed models, at most


@dataclass(frozen=True)
class Case:
    """A model NAME of a folder: NAME.onnx, NAME.calib.npz to prune with, NAME.eval.npz to judge by."""

    folder: Path
    name: str
    samples: int | None = None  # of the evaluation file; None for all

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.name}.{ending}"

    @cached_property
    def model(self) -> Model:
        return load(self.file("onnx"))

    def options(self, seed: int, **more: Any) -> PruneOptions:
        return PruneOptions(keep=0.5, cut=CUTS.get(self.name, ()), seed=seed, threads=1, latency=False, **more)

    def training_set(self, data: Path) -> Samples:
        return training_set(self.name, data, self.folder, tuple(info.name for info in self.model.proto.graph.input))

    def calibration(self, samples: int | None, data: Path | None = None) -> Calibration:
        """The calibration file or its first samples; where it holds too few, the training set's first ones."""
        found = load_calibration(self.file("calib.npz"), self.model.graph)
        if samples is None or samples <= found.count:
            return found if samples is None else first(found, samples)
        assert data is not None, f"{samples} samples are more than the calibration file holds, and no data were given"
        given = self.training_set(data)[:samples]
        names = (info.name for info in self.model.proto.graph.input)
        arrays = {name: stacked(values) for name, values in zip(names, given.inputs, strict=True)}
        return replace(found, arrays=arrays, labels=given.labels, count=len(given))

    def session(self, seed: int, samples: Calibration | None = None, **more: Any) -> PruningSession:
        """Measured once, for every uniform cut with this seed; on the calibration file, if nothing else is said."""
        session = start_session(self.model, samples or self.calibration(None), self.options(seed, **more))
        measured = measure_statistics(session.outputs, session.split, lambda *_: None)
        return replace(session, measured=measured)

    @cached_property
    def judge(self) -> Judge:
        return Judge.of(self)


def without_padding(data: Calibration, samples: NDArray[np.int64]) -> Feeds:
    """A run of some samples, without the padding that none of them needs."""
    return dict(next(data.packed(samples, len(samples)))[1])


def first(data: Calibration, samples: int) -> Calibration:
    """The first samples of a file, which is in no order."""
    arrays = {n: a if n in data.whole else a[:samples] for n, a in data.arrays.items()}
    labels = None if data.labels is None else data.labels[:samples]
    return replace(data, arrays=arrays, labels=labels, count=samples)


@dataclass(frozen=True, eq=False)
class Judge:
    """Evaluation samples, in batches without padding where the model allows it, and what the dense model makes of them.

    Attributes
    ----------
    order : (n,) int64
        The samples as they come out of the batches.
    """

    proto: onnx.ModelProto
    data: Calibration
    order: NDArray[np.int64]

    @staticmethod
    def of(case: Case) -> Judge:
        model = case.model
        data = load_calibration(case.file("eval.npz"), model.graph)
        data = data if case.samples is None else first(data, min(case.samples, data.count))
        graph = start_session(model, data, case.options(0)).analysis.graph
        data = packed(model, graph, data, None, 1)
        samples = np.arange(data.count)
        return Judge(model.proto, data, samples if data.padding is None else data.padding.shortest_first(samples))

    @cached_property
    def dense(self) -> NDArray[Any]:
        return self.outputs(self.proto)

    def outputs(self, proto: onnx.ModelProto) -> NDArray[Any]:
        session = open_session(proto, threads=1)
        batches = self.data.packed(np.arange(self.data.count), BATCH)
        return np.concatenate([session.run(feeds)[session.outputs[0]] for _, feeds in batches])

    def quality(self, proto: onnx.ModelProto) -> dict[str, float]:
        """Accuracy, agreement with the dense model and relative error of the outputs."""
        assert self.data.labels is not None, "the evaluation file has no labels"
        found = compare(self.dense, self.outputs(proto), self.data.labels[self.order], self.data.count)
        return {
            "accuracy": found.accuracy or 0.0,
            "dense": found.original_accuracy or 0.0,
            "agreement": found.agreement or 0.0,
            "error": found.relative_error,
        }

    def one(self) -> Feeds:
        """One sample, of median length."""
        rest = self.order[len(self.order) // 2 :]
        return self.data.one_run(rest) if self.data.padding is None else without_padding(self.data, rest[:1])

    def times(self, protos: Sequence[onnx.ModelProto], seconds: float) -> Sequence[Latency]:
        """Times of one sample on one thread, model by model in turn, until they are known to 1 % or the time is up."""
        limits = {"seconds": seconds, "runs": TURNS, "precision": 0.01, "reload": RELOAD}
        return measure_latency(protos, self.one(), threads=1, clock="cpu", **limits)  # type: ignore[arg-type]

    def latency(self, proto: onnx.ModelProto, seconds: float = 10.0) -> dict[str, float]:
        """How fast, in turn with the dense model."""
        was, now = self.times((self.proto, proto), seconds)
        return {"ms": now.median, "speedup": now.speedup_over(was)}


def sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Bytes of the file, and of the file after gzip: zeros cost a plain file nothing less."""
    content = proto.SerializeToString()
    return {"bytes": len(content), "gzip": len(gzip.compress(content, 6))}
