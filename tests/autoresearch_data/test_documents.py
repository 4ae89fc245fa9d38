"""Cutting long texts: nothing is lost, nothing is too long, and cuts fall on seams."""

from hypothesis import given
from hypothesis import strategies as st

from autoresearch_data.documents import split_text

lines = st.sampled_from(["def f():", "    return 1", "", "\x0c", "x = 'é'", "  ", "\u2028y", "\r"])
source_text = st.lists(lines).map("\n".join)


@given(source_text | st.text(max_size=200), st.integers(1, 60))
def test_pieces_joined_are_the_text_and_none_is_too_long(text, limit):
    pieces = split_text(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)
    # Neighbours that fit together are together.
    assert all(len(a) + len(b) > limit for a, b in zip(pieces, pieces[1:], strict=False)) or len(pieces) < 2


def test_top_level_definitions_stay_whole():
    functions = [f"def f{n}():\n    x = {n}\n\n    return x\n\n\n" for n in range(6)]
    assert split_text("".join(functions), len(functions[0]) + 5) == functions
    assert split_text("".join(functions), 2 * len(functions[0])) == ["".join(functions[n : n + 2]) for n in (0, 2, 4)]


def test_a_long_class_is_cut_between_methods_and_a_long_line_anywhere():
    methods = ["class A:\n    x = 1\n\n", "    def f(self):\n        pass\n\n", "    def g(self):\n        pass\n"]
    assert split_text("".join(methods), 32) == methods
    assert split_text("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]


def test_empty_text_has_no_documents():
    assert split_text("") == []
