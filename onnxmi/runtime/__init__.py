"""onnxruntime: sessions, the probing run, stepwise execution, time and memory. The only importer of onnxruntime."""

import os

# onnxruntime reads it when it is loaded: nothing that onnxmi does is reported, unless the user's own setting says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
