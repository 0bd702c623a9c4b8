"""Text for display: metadata as words in a terminal, on a page, in a figure and in a report.

What stands in a document may be anything that JSON holds: an escape sequence, markup, a mapping
where a name was expected. All of it passes through here before it is shown.
"""

from __future__ import annotations

import html as _html
import json
import re
import time
import unicodedata
from datetime import datetime
from typing import Any

import rich.console
import rich.table
from rich.text import Text

LONGEST = 200
"""Characters of one value that are shown unless more are asked for."""

WHOLE = 20_000
"""Characters of a message, a reason or a whole cell that are shown."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of characters that steer a display instead of standing in it, or have no glyph."""

_MARKDOWN = re.compile(r"([\\`*\[\]<>|$~])")


def plain(value: object, longest: int = LONGEST) -> str:
    r"""Text of any value on one line, without characters that steer a terminal.

    Control characters, those that turn the direction of writing, those of no width and lone
    halves of surrogate pairs are written as Python's escapes (``\x1b``). "" for None.

    Parameters
    ----------
    value
        Anything; mappings and lists are written as JSON.
    longest
        Characters that are shown; a longer text ends with an ellipsis.
    """
    shown: list[str] = []
    room = longest
    for character in _text(value):
        if unicodedata.category(character) in _HIDDEN:
            character = character.encode("unicode_escape").decode("ascii")
        room -= len(character)
        if room < 0:
            # The last one makes room for the ellipsis.
            while shown and sum(map(len, shown)) >= longest:
                shown.pop()
            return "".join([*shown, "…"])
        shown.append(character)
    return "".join(shown)


def _text(value: object) -> str:
    if value is None:
        return ""
    try:
        if isinstance(value, dict | list | tuple):
            return json.dumps(value, ensure_ascii=False, default=str)
        return str(value)
    except (ValueError, TypeError, RecursionError):  # a number of 5000 digits, keys of any kind
        return f"<{type(value).__name__}>"


def html(value: object, longest: int = LONGEST) -> str:
    """Return any value as text of a page, in an element or in an attribute."""
    return _html.escape(plain(value, longest))


def figure(value: object, longest: int = LONGEST) -> str:
    """Return any value as text of a figure, in which matplotlib finds no mathematics."""
    return plain(value, longest).replace("$", r"\$")


def markdown(value: object, longest: int = LONGEST) -> str:
    """Return any value as text of a report in Markdown, also in a cell of a table."""
    return _MARKDOWN.sub(r"\\\1", plain(value, longest))


def code(value: object, longest: int = LONGEST) -> str:
    """Return any value as a code span of a report in Markdown, also in a cell of a table."""
    return "`" + plain(value, longest).replace("`", "'").replace("|", r"\|") + "`"


def moment(value: object, shape: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time (s since 1970) as local date and time; as it is if it is no time.

    Parameters
    ----------
    value
        Usually a number.
    shape
        As for `time.strftime`.
    """
    try:
        return time.strftime(shape, time.localtime(value))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError, OSError):
        return plain(value)


def iso(value: object) -> str:
    """Return a time (s since 1970) as ISO 8601 with the local zone; as it is if it is no time."""
    try:
        return datetime.fromtimestamp(value).astimezone().isoformat(timespec="seconds")  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError, OSError):
        return plain(value)


def duration(seconds: float) -> str:
    """Return seconds in words, to the second or the minute."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def lines(*values: object, longest: int = LONGEST) -> Text:
    """Return values as one cell of a table, each on a line of its own."""
    return Text("\n".join(plain(value, longest) for value in values))


class Table(rich.table.Table):
    """Table for the terminal: its title and its cells are shown as they are, never as markup."""

    def __init__(self, *headers: Any, title: object = None, **options: Any) -> None:
        shown = None if title is None else Text(plain(title, WHOLE), style="table.title")
        super().__init__(*headers, title=shown, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of any values."""
        shown = (cell if isinstance(cell, Text) else Text(plain(cell, WHOLE)) for cell in cells)
        super().add_row(*shown, **options)


class Console(rich.console.Console):
    """Terminal on which text is shown as it is: no markup, no control characters."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print text line by line, and tables."""
        shown = (
            Text("\n".join(plain(line, WHOLE) for line in each.split("\n")))
            if isinstance(each, str)
            else each
            for each in objects
        )
        super().print(*shown, **options)
