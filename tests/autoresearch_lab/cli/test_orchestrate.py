"""What `orchestrate` says at its end."""

import io

from rich.console import Console

from autoresearch_lab.cli.orchestrate import _outcome


def test_without_candidates_it_says_why_and_what_to_do():
    outcome = _outcome([], {}, plan=False)
    console = Console(record=True, width=80, file=io.StringIO())
    outcome.render(console)
    assert "nothing to try: no kernel" in console.export_text() and not outcome.positive
    assert "kernel-lab extract" in outcome.data["remark"]
