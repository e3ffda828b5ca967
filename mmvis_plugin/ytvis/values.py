"""Checks of single values of an annotation file."""

from __future__ import annotations

from itertools import chain, compress
from numbers import Real
from operator import not_
from typing import Any

MAX_SIDE = 2**15 - 1  # pixels; no image format of video frames goes further
MAX_NUMBER = MAX_SIDE**2  # of a box or an area
MAX_ID = 2**63 - 1


def is_id(value: Any) -> bool:
    """Whether a value can be an id: a whole number or a text."""
    return is_text(value) or (type(value) is int and abs(value) <= MAX_ID)


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


def are_usual_boxes(boxes: list, counts: list[str]) -> bool:
    """Whether all boxes of a track are right, found without looking at each.

    Args:
        boxes: A box or nothing for each frame.
        counts: Text of the mask in each frame, "" where there is none.
    """
    present = list(filter(None, boxes))
    if len(present) + boxes.count(None) + boxes.count([]) < len(boxes):
        return False
    if any(compress(boxes, map(not_, counts))):
        return False
    if set(map(type, present)) - {list} or set(map(len, present)) - {4}:
        return False
    numbers = list(chain.from_iterable(present))
    sides = numbers[2::4] + numbers[3::4]
    return _are_usual_numbers(numbers, -MAX_NUMBER) and _are_usual_numbers(sides, 0)


def are_usual_areas(areas: list, counts: list[str]) -> bool:
    """Whether all areas of a track are right, likewise."""
    if any(compress(areas, map(not_, counts))):
        return False
    return _are_usual_numbers([area for area in areas if area is not None], 0)


def _are_usual_numbers(numbers: list, least: int) -> bool:
    if set(map(type, numbers)) - {int, float}:
        return False
    in_range = not numbers or (min(numbers) >= least and max(numbers) <= MAX_NUMBER)
    return in_range and (total := sum(numbers)) == total  # NaN is not


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
