"""onnxruntime: sessions, the probing run, stepwise execution, time and memory. The only door to onnxruntime."""
