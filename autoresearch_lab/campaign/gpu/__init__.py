"""The plan for an NVIDIA GPU: everything that only one can show, in nine minutes."""
