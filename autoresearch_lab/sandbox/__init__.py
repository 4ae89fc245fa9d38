"""Runs jobs in processes of their own: `parent` starts and judges, `child` is what runs there."""
