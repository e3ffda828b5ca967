"""Checks of single values of an annotation file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain, compress
from numbers import Real
from typing import Any

import numpy as np

MAX_SIDE = 2**15 - 1  # pixels; no image format of video frames goes further
MAX_NUMBER = MAX_SIDE**2  # of a box or an area
MAX_ID = 2**63 - 1


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a whole number or a text."""
    return abs(value) <= MAX_ID if type(value) is int else is_text(value)


def is_text(value: Any) -> bool:
    """Whether a value is a text that is not empty and can be written and printed."""
    return isinstance(value, str) and value != "" and are_texts([value])


def are_texts(values: list) -> bool:
    """Whether all values are texts that are not empty and can be written and printed."""
    try:
        joined = "".join(values)
        joined.encode()
    except (TypeError, UnicodeEncodeError):  # halves of surrogate pairs
        return False
    return "" not in values and "\0" not in joined


def is_side(value: Any) -> bool:
    """Whether a value is a height or width in pixels; a file may have it as 36.0."""
    return type(value) in (int, float) and 1 <= value <= MAX_SIDE and value % 1 == 0


def are_usual_boxes(tracks: Iterable[tuple[list, list[str]]]) -> bool:
    """Whether boxes are right in the usual way, found without looking at each.

    Args:
        tracks: The boxes of each track, of its frames, and the texts of its masks. Usual boxes are
            null where there is no mask, whose text is "".
    """
    boxes = _of_masks(tracks)
    if boxes is None or set(map(type, boxes)) - {list} or set(map(len, boxes)) - {4}:
        return False
    numbers = _numbers(list(chain.from_iterable(boxes)))
    return numbers is not None and bool((numbers.reshape(-1, 4)[:, 2:] >= 0).all())


def are_usual_areas(tracks: Iterable[tuple[list, list[str]]]) -> bool:
    """Whether areas are right in the usual way, likewise."""
    areas = _of_masks(tracks)
    numbers = None if areas is None else _numbers(areas)
    return numbers is not None and bool((numbers >= 0).all())


def _of_masks(tracks: Iterable[tuple[list, list[str]]]) -> list | None:
    """The values of frames with a mask; None if there are values of other frames."""
    present = []
    for values, counts in tracks:
        num_before = len(present)
        present += compress(values, counts)
        if len(present) - num_before + values.count(None) != len(values):
            return None
    return present


def _numbers(values: list) -> np.ndarray | None:
    """Numbers as an array; None if they are something else, or too large for a box or an area."""
    if set(map(type, values)) - {int, float}:
        return None
    try:
        numbers = np.frombuffer(array("d", values))
    except OverflowError:
        return None
    return numbers if np.abs(numbers).max(initial=0) <= MAX_NUMBER else None  # NaN is not


def is_box(box: Any) -> bool:
    return (
        isinstance(box, (list, tuple))
        and len(box) == 4
        and all(is_number(v) and abs(v) <= MAX_NUMBER for v in box)
        and box[2] >= 0
        and box[3] >= 0
    )


def is_area(area: Any) -> bool:
    """Whether a value is a finite number of 0 or more."""
    return is_number(area) and bool(0 <= area <= MAX_NUMBER)


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)
