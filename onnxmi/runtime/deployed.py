"""Whether a model opens as deployed sessions open it: onnxruntime may end the process that tries.

    python -m onnxmi.runtime.deployed MODEL...

opens models with onnxruntime's own settings.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import onnx

from onnxmi.errors import ModelError
from onnxmi.model.external_data import bytes_or_path, stored_tensors
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.runtime.session import open_file


def require_opening(*protos: onnx.ModelProto) -> None:
    """Refuse models that end the process of a deployed session; only models in half precision are known to.

    Raises
    ------
    ModelError
        If one does.
    """
    half = [proto for proto in protos if _has_half(proto)]
    if not half:
        return
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryFolder())
        paths: list[str] = []
        for number, proto in enumerate(half):
            source = stack.enter_context(bytes_or_path(proto))
            path = Path(folder, f"{number}.onnx") if isinstance(source, bytes) else Path(source)
            if isinstance(source, bytes):
                path.write_bytes(source)
            paths.append(str(path))
        # One process for all: to start it takes longer than to open most models.
        done = subprocess.run([sys.executable, "-P", "-m", __name__, *paths], capture_output=True, check=False)
    if done.returncode < 0:
        raise ModelError("onnxruntime ends the process that opens it with the default optimizations")


def _has_half(proto: onnx.ModelProto) -> bool:
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in stored_tensors(proto.graph))


if __name__ == "__main__":
    for model in sys.argv[1:]:
        open_file(model, threads=1)
