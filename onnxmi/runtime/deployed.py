"""Whether a model opens as deployed sessions open it: onnxruntime may end the process that tries.

    python -m onnxmi.runtime.deployed MODEL

opens a model with onnxruntime's own settings.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx

from onnxmi.errors import ModelError
from onnxmi.model.external_data import bytes_or_path, stored_tensors
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.runtime.session import open_file


def require_opening(proto: onnx.ModelProto) -> None:
    """Refuse a model that ends the process of a deployed session; only models in half precision are known to.

    Raises
    ------
    ModelError
        If it does.
    """
    if not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in stored_tensors(proto.graph)):
        return
    with TemporaryFolder() as folder, bytes_or_path(proto) as source:
        path = Path(folder, "model.onnx") if isinstance(source, bytes) else source
        if isinstance(source, bytes):
            Path(path).write_bytes(source)
        done = subprocess.run([sys.executable, "-P", "-m", __name__, str(path)], capture_output=True, check=False)
    if done.returncode < 0:
        raise ModelError("onnxruntime ends the process that opens it with the default optimizations")


if __name__ == "__main__":
    open_file(sys.argv[1], threads=1)
