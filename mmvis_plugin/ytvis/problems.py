"""What can be wrong with an annotation file, in the same words for every part that reads it."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Something wrong.

    Attributes:
        level: 'error' for a file that is refused, 'warning' for what is read but odd.
        kind: One word, the same for all problems of a kind.
        message: What is wrong, in one line.
        video: Id of the video, where it is about one.
        annotation: Id of the annotation, where it is about one.
        frame: Index of the frame from 0, where it is about one.
    """

    level: str
    kind: str
    message: str
    video: Any = None
    annotation: Any = None
    frame: int | None = None

    @property
    def sentence(self) -> str:
        """Where it is and what it is."""
        where = ((name, getattr(self, name)) for name in ("video", "annotation", "frame"))
        parts = [f"{name} {_plain(value)}: " for name, value in where if value is not None]
        return f"{''.join(parts)}{self.message}"

    def __str__(self) -> str:
        return f"{self.level}: {self.sentence} [{self.kind}]"


class FormatError(ValueError):
    """A file that cannot be used; the message says where, what was found and what is expected.

    Args:
        message: One line that begins with the file's name.
        problem: The same, in parts, where the file was read far enough.
    """

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Problems(list):
    """The problems of a file, which is read to its end or up to the first error.

    Args:
        name: Name of the file, for messages.
        collect: Go on after an error.
    """

    def __init__(self, name: str, collect: bool) -> None:
        super().__init__()
        self.name = name
        self.collect = collect

    def error(self, kind: str, message: str, **where) -> None:
        """Note an error, or raise it as a :class:`FormatError`."""
        problem = Problem("error", kind, message, **where)
        self.append(problem)
        if not self.collect:
            raise FormatError(f"{self.name}: {problem.sentence}", problem)

    def warning(self, kind: str, message: str, **where) -> None:
        """Note something odd."""
        self.append(Problem("warning", kind, message, **where))


def summary_of(problems: Sequence[Problem]) -> str:
    """Say in a line how many problems of each kind there are, and the first of them."""
    kinds = Counter(problem.kind for problem in problems)
    counts = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
    return f"{counts}; the first: {problems[0].sentence}"


def show(value: Any) -> str:
    """A value as it stands in messages: one line of bounded length, whatever it is."""
    if type(value) is int and value.bit_length() < 64:
        return str(value)
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__} too large to show"


def _plain(id_: Any) -> Any:
    """An id without quotation marks, if it is short and can be printed."""
    is_short_text = isinstance(id_, str) and id_.isprintable() and len(id_) <= 60
    return id_ if is_short_text or isinstance(id_, int) else show(id_)


class _Short(reprlib.Repr):
    def repr_dict(self, value: dict, level: int) -> str:
        """Whatever is in it: a mask may have been compressed, or not."""
        return "{...}" if value else "{}"


_SHORT = _Short()
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxtuple = 5
