"""Checks of single values of an annotation file."""

from __future__ import annotations

from itertools import chain
from numbers import Real
from typing import Any

import numpy as np

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
    """Whether all boxes are right, found fast: frames with a mask have a box and no others do."""
    present = list(filter(None, boxes))
    if len(present) + boxes.count(None) + boxes.count([]) < len(boxes):
        return False
    if any(box and not text for box, text in zip(boxes, counts, strict=True)):
        return False
    if not present:
        return True
    if set(map(type, present)) != {list} or set(map(len, present)) != {4}:
        return False
    if not set(map(type, chain.from_iterable(present))) <= {int, float}:
        return False
    try:
        array = np.array(present, dtype=np.float64)
    except OverflowError:
        return False
    return bool((np.abs(array) <= MAX_NUMBER).all() and (array[:, 2:] >= 0).all())


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
