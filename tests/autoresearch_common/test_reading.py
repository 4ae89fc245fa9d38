"""What strangers wrote is shown on one line, and moves no terminal."""

from autoresearch_common.reading import one_line


def test_a_message_is_one_line_without_what_a_terminal_acts_on():
    assert one_line("red \x1b[31m\x07\n  next\u202e") == "red \\x1b[31m\\x07 next\\x202e"


def test_of_a_long_one_the_middle_is_left_out():
    assert one_line("a" * 60 + "b" * 60, most=20) == "a" * 15 + " ... " + "b" * 5
