"""Job `race`: see autoresearch_trainer.probe.race."""

from functools import partial

from autoresearch_cuda.probe import environment
from autoresearch_cuda.rooms import ROOMS
from autoresearch_trainer.probe.race import race

run = partial(race, ROOMS, environment.snapshot)
