"""8-bit versions of float models, made by onnxruntime's own quantizer: which operators, with what ranges, and how."""
