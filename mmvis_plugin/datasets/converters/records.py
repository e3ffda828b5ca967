"""JSON files of other formats: reading and checking."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmvis_plugin.ytvis.json_file import constants_message, parse_json
from mmvis_plugin.ytvis.problems import FormatError, show

Keys = Mapping[str, type | tuple[type, ...]]
"""The keys of a JSON object, and the type or types that the value of each may have."""
MAX_NAMES, MAX_LETTERS = 10, 60  # in a message


class ConversionError(FormatError):
    """An input that cannot be converted; the message says what is wrong and where."""


def read_json(path: str | os.PathLike, encoding: str | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        encoding: Encoding of the text; UTF-8, -16 or -32, whichever it is, by default.

    Raises:
        ConversionError: If it is not text in this encoding.
        FormatError: If it is not JSON; the message names the file.
        OSError: If it cannot be read.
    """
    data = Path(path).read_bytes()
    encoding = encoding or json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise ConversionError(f"{path} is not text in {encoding}") from error
    content, constants = parse_json(text.encode(), os.fspath(path))
    if constants:
        raise ConversionError(f"{path}: {constants_message(constants)}")
    return content


def require(record: Any, keys: Keys, where: str) -> None:
    """Check that a JSON object has keys with values of the right types.

    Args:
        record: What should be an object.
        keys: Type or types of the value by key. ``float`` takes whole numbers too.
        where: Words that say where the record is.

    Raises:
        ConversionError: If it is no object, a key is missing or a value has another type.
    """
    if not isinstance(record, dict):
        raise ConversionError(f"{where}: expected an object, got a {type(record).__name__}")
    for key, types in keys.items():
        if key not in record:
            raise ConversionError(f"{where}: key {key!r} is missing")
        types = types if isinstance(types, tuple) else (types,)
        if float in types:
            types = (*types, int)
        value = record[key]
        # bool is an int for Python, not for JSON.
        valid = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
        if valid and isinstance(value, float):
            valid = math.isfinite(value)
        if not valid:
            names = " or ".join(kind.__name__ for kind in types)
            raise ConversionError(f"{where}: {key!r} must be {names}, got {show(value)}")


def whole_number(value: Any) -> int | None:
    """A JSON value as a whole number, also of text ("7") and of floats (7.0, as pandas writes).

    Args:
        value: Anything that JSON can hold.

    Returns:
        int | None: The number, None if it is not one.
    """
    if isinstance(value, str) and re.fullmatch(r"-?(0|[1-9]\d{0,17})", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def listing(names: Collection[str]) -> str:
    """The first names of a collection, for a message."""
    names = [name if len(name) <= MAX_LETTERS else show(name) for name in names]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES])}{more}"
