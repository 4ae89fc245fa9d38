"""Is the kernel faster, for sure? Measures it against the baseline in fresh processes and says so, with intervals."""
