"""Random networks in the forms that files are shipped in: optimized by onnxruntime, in 8 bits, in half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from logging import WARNING, disable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from onnxmi.runtime.deployed import require_opening
from onnxmi.runtime.session import open_session
from tests.support import judge
from tests.support.random_models.network import Network

CALIBRATED_ON = 8  # samples of a network whose batch is free


def as_shipped(network: Network, form: str) -> Network | None:
    """Return a network in one of `FORMS`; None where its makers fail, or onnxruntime does not run what they make."""
    with _quiet():
        try:
            made = replace(network, proto=FORMS[form](network))
            judge.run(made.proto, network.samples(network.batch or 2, 1))
        except Exception:  # they raise unrelated types at what they do not know
            return None
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    disable(WARNING)
    yield
    disable(0)


def _optimized(network: Network, level: GraphOptimizationLevel) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level, options.intra_op_num_threads = level, 4, 1
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "made.onnx"))
        onnxruntime.InferenceSession(network.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _dynamic(network: Network, **options: Any) -> onnx.ModelProto:
    return _by_file(network, partial(quantize_dynamic, **options))


def _static(network: Network, form: QuantFormat) -> onnx.ModelProto:
    reader = _Reader(network.samples(network.batch or CALIBRATED_ON, 5))
    quantize = partial(quantize_static, calibration_data_reader=reader, quant_format=form, per_channel=True)
    return _by_file(network, quantize)


def _by_file(network: Network, quantize: Callable[[str, str], None]) -> onnx.ModelProto:
    with TemporaryDirectory() as folder:
        given, made = (str(Path(folder, name)) for name in ("given.onnx", "made.onnx"))
        onnx.save(network.proto, given)
        quantize(given, made)
        return onnx.load(made)


class _Reader(CalibrationDataReader):
    """One batch."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self._batches = iter([batch])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _half(network: Network) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(network.proto)
    made = convert_float_to_float16(made, keep_io_types=True)
    # onnxruntime refuses some of these at its default level of optimization, or ends its process: nobody ships them.
    require_opening(made)
    open_session(made, spin=True)
    return made


FORMS: Mapping[str, Callable[[Network], onnx.ModelProto]] = {
    "plain": lambda network: network.proto,
    "basic": partial(_optimized, level=GraphOptimizationLevel.ORT_ENABLE_BASIC),
    "extended": partial(_optimized, level=GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
    "all": partial(_optimized, level=GraphOptimizationLevel.ORT_ENABLE_ALL),
    "dynamic": _dynamic,
    "dynamic-channels": partial(_dynamic, per_channel=True, reduce_range=True),
    "qdq": partial(_static, form=QuantFormat.QDQ),
    "qoperator": partial(_static, form=QuantFormat.QOperator),
    "half": _half,
}
