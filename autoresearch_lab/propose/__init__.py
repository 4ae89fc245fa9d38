"""Somebody else writes the kernels: a command (a coding agent, say) or the built-in tuner changes the kernel of a
workspace, the lab judges it, and tells what came of it before the next attempt."""
