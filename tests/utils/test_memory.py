"""The peak of the process's memory, on memory whose size is known."""

import sys

import numpy as np
import pytest

from mmvis_plugin.utils.memory import peak_memory, reset_peak_memory

SIZE = 200 * 2**20  # large beside whatever else is allocated meanwhile


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can let the peak begin anew")
def test_peak_is_that_since_the_reset():
    reset_peak_memory()
    before = peak_memory()
    memory = np.ones(SIZE, np.uint8)
    peak = peak_memory()
    assert 0.9 * SIZE < peak - before < 1.5 * SIZE
    del memory
    assert peak_memory() > peak - 0.1 * SIZE
    reset_peak_memory()
    assert peak_memory() < peak - 0.5 * SIZE
