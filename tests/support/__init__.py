"""What tests share: a builder of ONNX models, a generator of random ones, and the oracle of a rewrite."""
