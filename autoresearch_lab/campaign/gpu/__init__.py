"""The plan for an NVIDIA GPU: everything that only one can show, in two calls of four and seven minutes."""
