"""Trained files that published packages ship: fetched, calibrated, pruned, and judged on fresh inputs.

Nothing here imports the package under test: what prunes is a program that is started, and what judges is onnxruntime.
"""
