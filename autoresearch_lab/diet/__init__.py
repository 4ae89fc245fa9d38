"""Diet: what an honest kernel's source needs, and what a kernel's does beyond that, read without running anything."""

from autoresearch_lab.diet.findings import DietFinding, findings, lines, summary

__all__ = ["DietFinding", "findings", "lines", "summary"]
