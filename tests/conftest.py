import os

import pytest

SWITCH = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@pytest.fixture(autouse=True)
def loading_is_as_before():
    """Take back what ``forbid_unsafe_loading`` of a tool that a test runs in this process sets."""
    before = os.environ.get(SWITCH)
    yield
    os.environ.pop(SWITCH, None)
    if before is not None:
        os.environ[SWITCH] = before
