"""Names of presets, checked before anything is measured with one of them."""

from __future__ import annotations

from autoresearch_lab.errors import LabError
from autoresearch_trainer import config
from autoresearch_trainer.errors import ConfigError


def require_presets(*names: str) -> None:
    """Raises LabError where one of the names is none of a preset."""
    for name in names:
        try:
            config.preset(name)
        except ConfigError as error:
            raise LabError(str(error)) from None
