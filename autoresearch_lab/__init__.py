"""The kernel lab: profile, workspace, verify, bench, A/B, promote. Knows no array framework."""

__version__ = "0.1.0"
