"""Job `throughput`: see autoresearch_trainer.probe.throughput."""

from functools import partial

from autoresearch_mlx.probe import environment
from autoresearch_mlx.rooms import ROOMS
from autoresearch_trainer.probe.throughput import measure

run = partial(measure, ROOMS, environment.snapshot)
