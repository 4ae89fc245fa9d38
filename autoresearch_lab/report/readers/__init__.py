"""Readers: one module per kind of record, turning its `results` into what the report shows.

They take what is there: a key that a record does not hold gives None, never a number made up for it.
"""
