"""A look through the text of a large JSON before it is parsed, compiled by Numba.

A parser that looks for repeated keys calls Python for every object, of which a file of masks has
hundreds of thousands. The text shows in a fraction of the time that there are none.
"""

from __future__ import annotations

import numpy as np

from .rle_loops import compiled

_QUOTE, _BACKSLASH, _COLON, _LIST, _OPEN, _CLOSE = b'"\\:[{}'
_SPACE = 32
_LONGEST_KEY = 64  # bytes
_MOST_KEYS = 256  # of an object and those around it
_DEEPEST = 64
_COUNTS = np.frombuffer(b"counts", dtype=np.uint8)
# Indices that cannot be negative spare a test at each access.
_ONE, _SEVEN, _EIGHT = np.uint64(1), np.uint64(7), np.uint64(8)
# To find a byte in eight at once: what is 0 after the exclusive or borrows from its highest bit.
_LOW, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES = _LOW * np.uint64(_QUOTE), _LOW * np.uint64(_BACKSLASH)


def look_through(text: bytes) -> tuple[bool, bool]:
    """Look for repeated keys and for masks that are lists.

    Args:
        text: A JSON in UTF-8.

    Returns:
        tuple: Whether a key may be repeated in an object (if not, none is), and whether there may
        be lists under the key "counts".
    """
    chars = np.frombuffer(text, dtype=np.uint8)
    words = chars[: len(chars) // 8 * 8].view(np.uint64)
    hashes, starts = np.empty(_MOST_KEYS, np.uint64), np.zeros(_DEEPEST, np.int64)
    return _look_through(chars, words, hashes, starts)


@compiled
def _look_through(chars, words, hashes, starts):
    p, stop = np.uint64(0), np.uint64(len(chars))
    num_keys = depth = 0  # of the open objects
    has_lists = False
    while p < stop:
        char = chars[p]
        p += _ONE
        if char == _QUOTE:
            begin = p
            p, is_plain = _end_of_text(chars, words, p)
            end = p
            p = _skip_spaces(chars, p + _ONE)
            if p >= stop or chars[p] != _COLON:
                continue
            if not is_plain or end - begin > _LONGEST_KEY or num_keys == len(hashes):
                return True, True
            key = _hash(chars, begin, end)
            for other in hashes[starts[depth] : num_keys]:
                if other == key:
                    return True, True
            hashes[num_keys] = key
            num_keys += 1
            p = _skip_spaces(chars, p + _ONE)
            if p < stop and chars[p] == _LIST and key == _hash(_COUNTS, 0, len(_COUNTS)):
                has_lists = True
        elif char == _OPEN:
            depth += 1
            if depth == len(starts):
                return True, True
            starts[depth] = num_keys
        elif char == _CLOSE:
            num_keys = starts[depth]
            depth -= 1
            if depth < 0:
                return True, True
    return False, has_lists


@compiled
def _end_of_text(chars, words, p):
    """Place of the quotation mark that ends a text, and whether there is no backslash in it."""
    stop, is_plain = np.uint64(len(chars)), True
    while p < stop and chars[p] != _QUOTE:
        if chars[p] == _BACKSLASH:
            is_plain = False
            p += _ONE
        p += _ONE
        if not p & _SEVEN:
            word = p // _EIGHT
            while word < np.uint64(len(words)) and not _has_mark(words[word]):
                word += _ONE
            p = word * _EIGHT
    return p, is_plain


@compiled
def _has_mark(word):
    """Whether there is a quotation mark or a backslash in eight bytes."""
    quotes, backslashes = word ^ _QUOTES, word ^ _BACKSLASHES
    return ((quotes - _LOW) & ~quotes | (backslashes - _LOW) & ~backslashes) & _HIGH != 0


@compiled
def _skip_spaces(chars, p):
    while p < np.uint64(len(chars)) and chars[p] <= _SPACE:
        p += _ONE
    return p


@compiled
def _hash(chars, begin, end):
    """Hash of some bytes (FNV-1a)."""
    value = np.uint64(14695981039346656037)
    for p in range(np.uint64(begin), np.uint64(end)):
        value = (value ^ np.uint64(chars[np.uint64(p)])) * np.uint64(1099511628211)
    return value
