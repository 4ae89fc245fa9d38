"""Promotion: which kernels the trainer uses on this machine, and how one gets onto or off that list."""
