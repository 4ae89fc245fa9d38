"""Corpus -> parquet shards -> tokenizer -> cached tokens -> packed batches, and the bits-per-byte arithmetic.

NumPy only, no tensor framework, imported by every engine and by the lab.
"""
