"""No number option takes what is not a number."""

import click
import pytest

from autoresearch_lab.cli.app import VERBS, cli
from autoresearch_lab.cli.options import FiniteRange


def _options():
    for name in VERBS:
        for option in cli.get_command(None, name).params:
            if isinstance(option.type, click.types.FloatParamType):
                yield pytest.param(option, id=f"{name} {option.opts[0]}")


@pytest.mark.parametrize("option", list(_options()))
@pytest.mark.parametrize("word", ["nan", "inf"])
def test_every_number_option_refuses_what_is_not_finite(option: click.Option, word: str):
    with pytest.raises(click.BadParameter):
        option.type.convert(word, option, None)


def test_bounds_hold_and_numbers_pass():
    kind = FiniteRange(min=1)
    assert kind.convert("2.5", None, None) == 2.5
    with pytest.raises(click.BadParameter, match="is not in the range"):
        kind.convert("0.5", None, None)
    with pytest.raises(click.BadParameter, match="nan is not a finite number"):
        kind.convert("nan", None, None)
