"""JSON files of any content, read quickly and within bounds."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .masks import compress_lists
from .problems import FormatError, show


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Spare the collector the many objects of a JSON, which it would look through repeatedly.

    For a block or, as a decorator, for a function that makes many objects and no cycles of them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        FormatError: If it is not JSON, or nested too deeply, or an object has a key twice, or it
            holds NaN or infinity, which JSON does not have; the message names the file.
        OSError: If it cannot be read.
    """
    content, constants = parse_json(Path(path).read_bytes(), os.fspath(path))
    if constants:
        raise FormatError(f"{os.fspath(path)}: {constants_message(constants)}")
    return content


def parse_json(text: bytes, name: str, keep_lists: bool = True) -> tuple[Any, list[str]]:
    """Parse a JSON.

    Args:
        text: The JSON.
        name: Name of the file, for messages.
        keep_lists: Leave uncompressed RLEs as they are, else compress them first, which is fast.

    Returns:
        tuple: The content, and the words NaN, Infinity and -Infinity that are in it.

    Raises:
        FormatError: As :func:`read_json`, but not for these words.
    """
    constants: list[str] = []

    def constant(word: str) -> float:
        constants.append(word)
        return float(word)

    try:
        with without_garbage_collection():
            repeated_keys, lists = _look_through(text)
            if lists and not keep_lists:
                text = compress_lists(text)
            hook = _unique if repeated_keys else None
            content = json.loads(text, parse_constant=constant, object_pairs_hook=hook)
        return content, constants
    except RecursionError:
        raise FormatError(f"{name}: not valid JSON: it is nested too deeply") from None
    except _RepeatedKeyError as error:
        raise FormatError(f"{name}: an object has the key {show(error.args[0])} twice") from None
    except (ValueError, MemoryError) as error:  # also numbers of thousands of digits
        raise FormatError(f"{name}: not valid JSON: {error}") from error


_LARGE = 1_000_000  # bytes; Numba takes a second to be imported


def _look_through(text: bytes) -> tuple[bool, bool]:
    """Whether keys may be repeated, and lists be under "counts"; of a large text, what is so."""
    if len(text) < _LARGE or text[:1] not in (b"{", b"[") or text[1:2] == b"\0":  # UTF-16, UTF-32
        return True, True
    from .json_loops import look_through

    return look_through(text)


def constants_message(constants: list[str]) -> str:
    """What is wrong with a file that holds these words."""
    return f"JSON has no {constants[0]}: write null, or leave the key out ({len(constants)} times)"


class _RepeatedKeyError(Exception):
    """An object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        raise _RepeatedKeyError(next(k for k, _ in pairs if k in seen or seen.add(k)))
    return content
