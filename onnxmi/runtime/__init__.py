"""onnxruntime: sessions, the probing run, stepwise execution, time and memory. The only importer of onnxruntime."""
