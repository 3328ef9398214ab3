"""A TOML text and where in it everything stands, so that a mistake can be pointed at."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, time
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from .errors import Problem

#: The way to a value: table keys as strings, array positions as integers.
Path = tuple[str | int, ...]
#: Line and column, both counted from 1; columns are characters, not bytes.
Place = tuple[int, int]

_BASIC = r'"(?:[^"\\\n]|\\.)*"'
_LITERAL = r"'[^'\n]*'"
_LONG_BASIC = r'"""(?:[^"\\]|\\(?:.|\n)|"{1,2}(?!"))*"{3,5}'
_LONG_LITERAL = r"'''(?:[^']|'{1,2}(?!'))*'{3,5}"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(rf"[A-Za-z0-9_-]+|{_BASIC}|{_LITERAL}")
_STRING = re.compile(rf"{_LONG_BASIC}|{_LONG_LITERAL}|{_BASIC}|{_LITERAL}")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_INLINE_BLANK = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_SYNTAX_PLACE = re.compile(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[ \t]*\r?\n[ \t\r\n]*|.)")


class Document:
    """One TOML text: what it says (``data``) and where it says it.

    The places are only worked out when somebody asks for one, that is when something is wrong.
    """

    def __init__(self, text: str, file: str = "tally.toml") -> None:
        """Parse *text*; *file* is what problems will name.

        Raises :class:`~tallystick.errors.Problem` if *text* is not TOML.
        """
        # tomllib reads CRLF as LF; so must the offsets we count
        self.text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self.file = file
        try:
            self.data: dict[str, Any] = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_problem(str(error)) from None
        except RecursionError:
            raise Problem("nested too deeply", file=file, line=1, column=1) from None

    @classmethod
    def read(cls, path: FilePath, file: str | None = None) -> Document:
        """Read the file at *path*; problems will name it as *file*, or as the path was given."""
        name = str(path) if file is None else file
        try:
            return cls(path.read_text(encoding="utf-8"), name)
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            column = error.start - error.object.rfind(b"\n", 0, error.start)
            raise Problem("found bytes that are not UTF-8", file=name, line=line, column=column) from None
        except OSError as error:
            raise Problem(f"cannot be read: {error.strerror}", file=name, line=1, column=1) from None

    def value(self, path: Path) -> Any:
        """What the text says at *path*; raises LookupError if nothing."""
        found: Any = self.data
        for key in path:
            found = found[key]
        return found

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at *path* begins, or with *key* where its key does.

        Something that is not there is "at" the nearest table or array that should hold it.
        """
        keys, values = self._offsets
        while path:
            offset = keys.get(path) if key else values.get(path)
            if offset is None:
                offset = keys.get(path)
            if offset is not None:
                return self._place(offset)
            path = path[:-1]
            key = True
        return (1, 1)

    def place_in(self, path: Path, offset: int) -> Place:
        """Where the character number *offset* of the string at *path* stands in the file."""
        start = self._offsets[1].get(path)
        token = _STRING.match(self.text, start) if start is not None else None
        if token is None:
            return self.place(path)
        source = token[0]
        quote = source[:3] if source[:3] in ('"""', "'''") else source[0]
        at = len(quote)
        end = len(source) - len(quote)
        if len(quote) == 3 and source.startswith("\n", at):
            at += 1
        seen = 0
        while at < end:
            escape = _ESCAPE.match(source, at) if quote[0] == '"' else None
            if escape is not None and escape[0][1:].strip(" \t\n") == "":
                at = escape.end()  # a line-ending backslash stands for nothing
                continue
            if seen == offset:
                break
            at = escape.end() if escape is not None else at + 1
            seen += 1
        return self._place(token.start() + at)

    def problem(self, path: Path, message: str, *, key: bool = False, **details: Any) -> Problem:
        """The mistake at *path*, with its place."""
        line, column = self.place(path, key=key)
        return Problem(message, file=self.file, line=line, column=column, pointer=pointer(path), **details)

    @cached_property
    def _offsets(self) -> tuple[dict[Path, int], dict[Path, int]]:
        return _Scan(self.text).offsets()

    def _place(self, offset: int) -> Place:
        return self.text.count("\n", 0, offset) + 1, offset - self.text.rfind("\n", 0, offset)

    def _syntax_problem(self, message: str) -> Problem:
        found = _SYNTAX_PLACE.match(message)
        if found is None:
            return Problem(f"not TOML: {message}", file=self.file, line=1, column=1)
        if found[2]:
            line, column = int(found[2]), int(found[3])
        else:
            line, column = self._place(len(self.text))
        return Problem(f"not TOML: {found[1]}", file=self.file, line=line, column=column)


def pointer(path: Path) -> str:
    """*path* as an RFC 6901 JSON Pointer."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def dotted(path: Path) -> str:
    """*path* as one would write it in TOML, array positions in brackets and counted from 0."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += ("." if text else "") + (key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"')
    return text


class _Scan:
    """Walks a text that tomllib has already accepted, so nothing here needs to be checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}

    def offsets(self) -> tuple[dict[Path, int], dict[Path, int]]:
        table: Path = ()
        lengths: dict[Path, int] = {}
        at = self._skip(0)
        while at < len(self.text):
            if self.text.startswith("[[", at):
                table, at = self._header(at + 2, lengths, array=True)
                at += 2
            elif self.text[at] == "[":
                table, at = self._header(at + 1, lengths, array=False)
                at += 1
            else:
                at = self._pair(at, table)
            at = self._skip(at)
        return self.keys, self.values

    def _header(self, at: int, lengths: dict[Path, int], *, array: bool) -> tuple[Path, int]:
        path: Path = ()
        for name, start, end, last in self._dotted_key(at):
            path += (name,)
            if last and array:
                self.keys.setdefault(path, start)
                lengths[path] = lengths.get(path, 0) + 1
                path += (lengths[path] - 1,)
            elif path in lengths:
                path += (lengths[path] - 1,)
            if last:
                self.keys[path] = start  # the header itself beats an earlier mention by a child
            else:
                self.keys.setdefault(path, start)
            at = end
        return path, _INLINE_BLANK.match(self.text, at).end()  # type: ignore[union-attr]  # matches the empty string

    def _pair(self, at: int, table: Path) -> int:
        path = table
        for name, start, end, _last in self._dotted_key(at):
            path += (name,)
            self.keys.setdefault(path, start)
            at = end
        at = self.text.index("=", at) + 1
        at = _INLINE_BLANK.match(self.text, at).end()  # type: ignore[union-attr]
        return self._value(at, path)

    def _value(self, at: int, path: Path) -> int:
        self.values[path] = at
        self.keys.setdefault(path, at)
        match self.text[at]:
            case "[":
                at = self._skip(at + 1)
                index = 0
                while self.text[at] != "]":
                    at = self._skip(self._value(at, (*path, index)))
                    index += 1
                    if self.text[at] == ",":
                        at = self._skip(at + 1)
                return at + 1
            case "{":
                at = self._skip(at + 1)
                while self.text[at] != "}":
                    at = self._skip(self._pair(at, path))
                    if self.text[at] == ",":
                        at = self._skip(at + 1)
                return at + 1
            case '"' | "'":
                return _STRING.match(self.text, at).end()  # type: ignore[union-attr]
            case _:
                return _SCALAR.match(self.text, at).end()  # type: ignore[union-attr]

    def _dotted_key(self, at: int) -> Iterator[tuple[str, int, int, bool]]:
        while True:
            at = _INLINE_BLANK.match(self.text, at).end()  # type: ignore[union-attr]
            token = _KEY.match(self.text, at)
            assert token is not None
            name = token[0]
            if name[0] == '"':
                name = next(iter(tomllib.loads(f"{name} = 0")))
            elif name[0] == "'":
                name = name[1:-1]
            dot = _INLINE_BLANK.match(self.text, token.end()).end()  # type: ignore[union-attr]
            last = not self.text.startswith(".", dot)
            yield name, token.start(), token.end(), last
            if last:
                return
            at = dot + 1

    def _skip(self, at: int) -> int:
        return _BLANK.match(self.text, at).end()  # type: ignore[union-attr]


def as_toml(value: Any) -> str:
    """A value as TOML writes it on one line, such that it is read as the same again.

    >>> as_toml({"name": "base", "per": 100, "tags": ["a", True]})
    '{ name = "base", per = 100, tags = ["a", true] }'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = (f"{key if _BARE.fullmatch(key) else as_toml(key)} = {as_toml(each)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_toml, value))}]"
    return value.isoformat() if isinstance(value, (date, time)) else str(value)
