"""What every package above shares: content hashes, the C++ compiler, workloads as data. NumPy only."""
