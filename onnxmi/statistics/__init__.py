"""Run the samples once, and keep moments instead of activations: capture, output sensitivity, their file."""
