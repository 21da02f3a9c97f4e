"""JSON lines, or the elements of a JSON array, one at a time: as objects a file takes ten times its size."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, TextIO

from ..errors import UsageError

CHUNK = 1 << 20
SPACE = " \t\r\n"


def elements(name: str, file: io.BufferedReader) -> Iterator[tuple[str, Any]]:
    """Each element with its place, `name:line` or `name: item 3`; an array is known by the bracket that it begins with.

    Raises UsageError, with the line, for what is not valid JSON, and UnicodeDecodeError for what is not UTF-8.
    """
    is_array = file.peek(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="\n")
    try:
        yield from _array(name, _Text(text)) if is_array else _lines(name, text)
    finally:
        text.detach()


def _lines(name: str, text: TextIO) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{name}:{number}: not valid JSON: {_words(error)}") from None
            yield f"{name}:{number}", value


def _array(name: str, text: _Text) -> Iterator[tuple[str, Any]]:
    text.take("[")
    index = 0
    while not text.take("]"):
        if index and not text.take(","):
            raise UsageError(f"{name}:{text.line}: not valid JSON: expected a comma or ] after item {index - 1}")
        try:
            value = text.value()
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}:{text.line}: item {index}: not valid JSON: {_words(error)}") from None
        yield f"{name}: item {index}", value
        index += 1
    if text.peek():
        raise UsageError(f"{name}:{text.line}: not valid JSON: text after the end of the array")


def _words(error: Exception) -> str:
    """What is wrong, without a position: that would count from the middle of the file."""
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"


class _Text:
    """A text that is read as far as it is needed, and no further kept than it is not yet used."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.held, self.place, self.before = file, "", 0, 1
        self.decoder = json.JSONDecoder()

    @property
    def line(self) -> int:
        return self.before + self.held.count("\n", 0, self.place)

    def more(self) -> bool:
        """Read on, by at least as much as is held, so that an element of any size is tried only a few times."""
        read = self.file.read(max(CHUNK, len(self.held) - self.place))
        self.before, self.held, self.place = self.line, self.held[self.place :] + read, 0
        return bool(read)

    def peek(self) -> str:
        """The next character that is not a space; nothing at the end."""
        while True:
            while self.place < len(self.held) and self.held[self.place] in SPACE:
                self.place += 1
            if self.place < len(self.held) or not self.more():
                return self.held[self.place : self.place + 1]

    def take(self, character: str) -> bool:
        """Whether that is the next character; then it is used up."""
        if self.peek() != character:
            return False
        self.place += 1
        return True

    def value(self) -> Any:
        """The next element. Raises ValueError where it is not valid JSON."""
        self.peek()
        while True:
            try:
                value, self.place = self.decoder.raw_decode(self.held, self.place)
            except ValueError:
                if not self.more():
                    raise
            else:
                return value
