"""The command line: one module per group of verbs. Parse, call, render; no logic."""
