"""Calibration samples: read, checked, batched, padded, split."""
