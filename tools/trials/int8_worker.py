"""Quantize an .onnx file to 8 bits by another tool's default recipe: int8_worker.py TOOL MODEL RESULT.

Runs in an environment that has the tool: optimum-onnx or olive-ai.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path


def by_optimum(source: Path, folder: Path) -> Path:
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    shutil.copy(source, folder / "model.onnx")
    quantizer = ORTQuantizer(folder / "model.onnx")
    quantizer.quantize(AutoQuantizationConfig.avx2(is_static=False, per_channel=False), folder / "result")
    return next((folder / "result").glob("*.onnx"))


def by_olive(source: Path, folder: Path) -> Path:
    from olive import run

    run(
        {
            "input_model": {"type": "ONNXModel", "model_path": str(source)},
            "passes": {"int8": {"type": "OnnxDynamicQuantization"}},
            "output_dir": str(folder / "result"),
            "cache_dir": str(folder / "cache"),
            "log_severity_level": 3,
        }
    )
    return next((folder / "result").rglob("*.onnx"))


TOOLS = {"optimum": by_optimum, "olive": by_olive}

if __name__ == "__main__":
    tool, model, result = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(TOOLS[tool](Path(model), Path(work)), result)
