"""Where things stand in a TOML text."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.document import Document, as_toml, dotted, pointer
from tallystick.errors import Problem

TEXT = (
    '''# a comment with = and [ brackets ]
title = "x" # and another
a . "b.c".d = [1, 2,
  { x = 1, y = [ 'a', """m
n""" ] }, # k
]
when = 1979-05-27 07:32:00
[[shop]]
n = 1
[shop.sub]
k = 2
[[shop]]
n = 2
[[shop.deep]]
q = 'it'''
    """'
"""
)


@pytest.mark.parametrize(
    "path, key, value",
    [
        (("title",), (2, 1), (2, 9)),
        (("a", "b.c", "d"), (3, 11), (3, 15)),
        (("a", "b.c", "d", 1), (3, 19), (3, 19)),
        (("a", "b.c", "d", 2, "x"), (4, 5), (4, 9)),
        (("a", "b.c", "d", 2, "y", 1), (4, 23), (4, 23)),
        (("when",), (7, 1), (7, 8)),
        (("shop", 0, "sub"), (10, 7), (10, 7)),
        (("shop", 0, "sub", "k"), (11, 1), (11, 5)),
        (("shop", 1, "n"), (13, 1), (13, 5)),
        (("shop", 1, "deep", 0, "q"), (15, 1), (15, 5)),
        (("shop", 1, "deep", 0, "absent"), (14, 8), (14, 8)),
        (("nowhere",), (1, 1), (1, 1)),
    ],
)
def test_every_key_and_value_has_a_place(path, key, value) -> None:
    document = Document(TEXT)
    assert document.place(path, key=True) == key
    assert document.place(path) == value


@pytest.mark.parametrize(
    "text, place, says",
    [
        ("a = 1\nb = \n", (2, 5), "Invalid value"),
        ("a = 1\na = 2\n", (2, 6), "overwrite"),
        ("a = [1,\n", (2, 1), "Invalid value"),
        ("[t\n", (1, 3), "]"),
    ],
)
def test_a_syntax_error_has_its_place(text, place, says) -> None:
    with pytest.raises(Problem) as caught:
        Document(text, "shop.toml")
    assert (caught.value.line, caught.value.column) == place
    assert says in caught.value.reason
    assert str(caught.value).startswith(f"shop.toml:{place[0]}:{place[1]}: not TOML: ")


@pytest.mark.parametrize("text", ["a = " + "[" * 5_000 + "]" * 5_000, "a = " + "{a=" * 5_000 + "1" + "}" * 5_000])
def test_a_text_nested_too_deeply_is_a_problem_like_any_other(text) -> None:
    with pytest.raises(Problem, match="nested too deeply"):
        Document(text)


def test_a_file_that_is_not_utf8_names_the_byte(tmp_path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b'a = 1\nb = "\xff"\n')
    with pytest.raises(Problem) as caught:
        Document.read(path, "bad.toml")
    assert (caught.value.line, caught.value.column) == (2, 6)


def test_a_byte_order_mark_and_windows_line_ends_do_not_move_places() -> None:
    document = Document('\ufeffa = 1\r\nb = """\r\nx"""\r\n')
    assert document.place(("b",), key=True) == (2, 1)
    assert document.place_in(("b",), 0) == (3, 1)


@pytest.mark.parametrize(
    "source",
    [
        '"plain"',
        "'literal \\n'",
        r'"tab\t quote\" u\u00e9 U\U0001F600 end"',
        '"""\nfirst\nsecond \\\n   third\\n fourth"""',
        "'''\nfirst\n second'''",
        '"""two ""quotes"" inside"""',
        '""""quoted""""',
    ],
)
def test_each_character_of_a_string_has_a_place(source) -> None:
    document = Document(f"rule = {source}\n")
    value = document.value(("rule",))
    lines = document.text.split("\n")
    for offset, character in enumerate(value):
        line, column = document.place_in(("rule",), offset)
        written = (lines[line - 1] + "\n")[column - 1]
        assert written in (character, "\\"), (offset, character, written)


_KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
_LEAVES = st.one_of(st.integers(-9, 9), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


def _toml(value, indent: str) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case list():
            return "[ # note ]\n" + "".join(f"{indent}{_toml(item, indent)} ,\n" for item in value) + "]"
        case _:
            return "{ " + ", ".join(f"{_toml(key, '')} = {_toml(item, indent)}" for key, item in value.items()) + " }"


def _paths(value, path=()):
    yield path
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(item, (*path, key))


@given(
    st.dictionaries(_KEYS, _TREES, max_size=4),
    st.sampled_from(["", " ", "\t"]),
)
def test_the_place_of_a_value_is_where_its_text_begins(tree, indent) -> None:
    text = "".join(f"{_toml(key, '')} = {_toml(value, indent)}\n" for key, value in tree.items())
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # inline tables may not span lines in TOML 1.0
        return
    document = Document(text)
    lines = text.split("\n")
    for path in _paths(tree):
        if path:
            line, column = document.place(path)
            assert lines[line - 1][column - 1 :].startswith(_toml(document.value(path), indent).split("\n")[0])


def test_paths_are_written_as_in_toml_and_as_json_pointers() -> None:
    assert dotted(("tenants", "a b", 0, "x")) == 'tenants."a b"[0].x'
    assert pointer(("a/b", 0, "~")) == "/a~1b/0/~0"


KEYS = st.text(max_size=5)
SCALARS = (
    st.booleans() | st.integers() | st.text() | st.dates() | st.datetimes() | st.times() | st.floats(allow_nan=False)
)


@given(
    st.dictionaries(
        KEYS, st.recursive(SCALARS, lambda some: st.lists(some) | st.dictionaries(KEYS, some), max_leaves=8)
    )
)
def test_what_is_written_is_read_as_the_same(said) -> None:
    assert tomllib.loads(f"said = {as_toml(said)}") == {"said": said}
