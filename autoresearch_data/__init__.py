"""Corpus -> parquet shards -> tokenizer -> cached tokens -> packed batches, and the bits-per-byte arithmetic.

The bottom package of the project: NumPy only, no tensor framework, imported by every engine and by the lab.
"""
