"""Job `race`: see autoresearch_trainer.probe.race."""

from functools import partial

from autoresearch_mlx.probe import environment
from autoresearch_mlx.rooms import ROOMS
from autoresearch_trainer.probe.race import race

run = partial(race, ROOMS, environment.snapshot)
