"""Somebody else has ideas for the trainer: a command changes it, the lab tries that, and keeps what is BETTER."""
