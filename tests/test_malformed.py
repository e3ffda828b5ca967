"""Malformed inputs of every kind: a result or one line that names the fault, within bounds.

``--malformed 2000`` tries more than the default; a failure names the number of its case, and
``--malformed-first NUMBER --malformed 1`` repeats it alone.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from malformed_campaign import run_campaign


def test_malformed_inputs(tmp_path, pytestconfig):
    first, count = map(pytestconfig.getoption, ("--malformed-first", "--malformed"))
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        found = process.submit(run_campaign, first, count, tmp_path).result()
    assert not found, "\n".join([f"{len(found)} faults in {count} cases:", *found])
