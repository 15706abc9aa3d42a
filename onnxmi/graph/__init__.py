"""The channel graph of one model: layers, why others are frozen, linear operators, quantization, costs, plans."""
