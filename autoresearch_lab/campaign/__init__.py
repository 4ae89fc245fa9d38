"""Campaigns: several steps in one go, each within its time, whatever becomes of the others."""
