"""The loops over the characters and runs of RLEs, compiled by Numba.

Importing this module imports Numba, which takes a second: :mod:`mmvis_plugin.ytvis.rle` does so
when the first mask is read. What was compiled is kept on disk. Other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np


def compiled(function: Callable) -> Callable:
    """Compile a function of numbers and arrays."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache can be written to
        return numba.njit(nogil=True)(function)


@compiled
def read_lengths(chars, lengths):
    """Read numbers with commas between; give how many, 0 where that is not what is written."""
    n = value = 0
    is_number = is_over = False
    for c in chars:
        if 48 <= c <= 57:
            if is_over or value > 1 << 40:
                return 0
            value = 10 * value + c - 48
            is_number = True
        elif c == 44:  # comma
            if not is_number:
                return 0
            lengths[n] = value
            n += 1
            value = 0
            is_number = is_over = False
        else:
            is_over = is_number
    if not is_number:
        return 0
    lengths[n] = value
    return n + 1


@compiled
def compress(runs, chars):
    n = 0
    for i in range(len(runs)):
        value = runs[i]
        if i > 2:
            value -= runs[i - 2]
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            chars[n] = digit + 48 + (32 if more else 0)
            n += 1
    return n


# Indices that cannot be negative spare a test at each access, a third of the time. Numba makes a
# float of the sum of one of them and any other number.
_ONE, _TWO = np.uint64(1), np.uint64(2)


@compiled
def _number(chars, p, stop):
    """Read the number at ``p``; give it, where it ends, and all bits of its characters."""
    digit = chars[p] - 48
    p += _ONE
    strange, value, sign = digit, digit & 31, 16
    while digit & 32 and p < stop and sign < 1 << 40:
        digit = chars[p] - 48
        p += _ONE
        strange |= digit
        sign <<= 5
        value |= (digit & 31) * (sign >> 4)
    strange |= (digit & 32) << 1  # cut off, or longer than any
    return (value ^ sign) - sign, p, strange


@compiled
def decode(chars, char_stops, offsets, bounds, run_stops, areas, pixels):
    p = n = np.uint64(0)  # in chars, in bounds
    for i in range(len(char_stops)):
        stop, first = np.uint64(char_stops[i]), n
        end = offsets[i]
        gap = run = area = lengths = 0  # the last has the bits of all lengths
        strange = -1  # until there is a number; then the bits of all characters
        if p < stop:
            lengths, p, strange = _number(chars, p, stop)
            end += lengths  # the first gap, to which no other refers
        while p < stop and not (strange & ~63 or lengths >> 34):
            # Nearly all numbers have one character: as long as that is so, two at a time.
            while p + _ONE < stop:
                digit, other = chars[p] - 48, chars[p + _ONE] - 48
                if (digit | other) & ~31:
                    break
                run += (digit ^ 16) - 16
                gap += (other ^ 16) - 16
                lengths |= run | gap
                bounds[n] = end
                end += run
                bounds[n + _ONE] = end
                end += gap
                area += run
                n += _TWO
                p += _TWO
            if p < stop:
                value, p, odd = _number(chars, p, stop)
                run += value
                strange |= odd
                lengths |= run
                bounds[n] = end
                end += run
                bounds[n + _ONE] = end
                n += _TWO
                area += run
            if p < stop:
                value, p, odd = _number(chars, p, stop)
                gap += value
                strange |= odd
                lengths |= gap
                end += gap
        # Characters of more than 6 bits, and lengths that are negative (-1) or larger than any.
        if strange & ~63 or lengths >> 34:
            n, area, end = first, 0, offsets[i] - 1
            p = stop
        run_stops[i], areas[i], pixels[i] = n, area, end - offsets[i]


@compiled
def intersect(bounds, spans, first, second, shared):
    for k in range(len(first)):
        i, i_stop = np.uint64(spans[first[k], 0]), np.uint64(spans[first[k], 1])
        j, j_stop = np.uint64(spans[second[k], 0]), np.uint64(spans[second[k], 1])
        total = 0
        # A run is done with when it ends before the next one of the other mask: mostly both are,
        # as the masks of one object have a run each in a column.
        while i + _TWO < i_stop and j + _TWO < j_stop:
            end, other_end = np.int64(bounds[i + _ONE]), np.int64(bounds[j + _ONE])
            begin = max(np.int64(bounds[i]), np.int64(bounds[j]))
            total += max(min(end, other_end) - begin, 0)
            following, other_following = np.int64(bounds[i + _TWO]), np.int64(bounds[j + _TWO])
            if end <= other_following:
                i += _TWO
            if other_end <= following:
                j += _TWO
        # One of the masks is at its last run.
        while i < i_stop and j < j_stop:
            end, other_end = np.int64(bounds[i + _ONE]), np.int64(bounds[j + _ONE])
            begin = max(np.int64(bounds[i]), np.int64(bounds[j]))
            total += max(min(end, other_end) - begin, 0)
            if end <= other_end:
                i += _TWO
            else:
                j += _TWO
        shared[k] = total
