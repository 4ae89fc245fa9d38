"""Traces: what the device did in the trainer's steady state, whose time that was, and what was found in it."""
