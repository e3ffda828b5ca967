"""The peak of the process's memory, on memory whose size is known."""

import os
import subprocess
import sys

import pytest
from scripts import ROOT

SIZE = 200 * 2**20  # large beside whatever else is allocated meanwhile
# In a process of its own: threads and caches of other tests would give memory back meanwhile.
PEAKS = f"""
import sys
import numpy as np
sys.path.insert(0, "tools")
from peak_memory import peak_memory, reset_peak_memory

older = np.ones({2 * SIZE}, np.uint8)
del older
reset_peak_memory()
peaks = [peak_memory()]
memory = np.ones({SIZE}, np.uint8)
peaks.append(peak_memory())
del memory
peaks.append(peak_memory())
reset_peak_memory()
peaks.append(peak_memory())
print(*peaks)
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="this system cannot let the peak begin anew (Linux's /proc/self/clear_refs)",
)
def test_peak_is_that_since_the_reset():
    run = subprocess.run(
        [sys.executable, "-c", PEAKS], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    before, held, freed, anew = map(int, run.stdout.splitlines()[-1].split())
    assert 0.9 * SIZE < held - before < 1.1 * SIZE
    assert freed > held - 0.1 * SIZE
    assert anew < held - 0.9 * SIZE
