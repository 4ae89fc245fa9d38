"""Job `throughput`: see autoresearch_trainer.probe.throughput."""

from functools import partial

from autoresearch_mlx import engine
from autoresearch_mlx.probe import environment
from autoresearch_trainer.probe.throughput import measure

run = partial(measure, engine, environment.snapshot)
