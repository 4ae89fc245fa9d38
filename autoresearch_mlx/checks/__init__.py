"""Kernels checked in place: sampled calls of a training are held against the oracle."""
