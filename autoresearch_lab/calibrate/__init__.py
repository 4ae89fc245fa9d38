"""Calibration: how often the verdicts are wrong on this machine, measured with planted kernels of known effect."""
