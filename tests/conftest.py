import logging
import os
import signal

import pytest
from mmengine.logging import MMLogger

SWITCH = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def pytest_addoption(parser):
    parser.addoption(
        "--all-configs", action="store_true", help="test_configs.py predicts and trains with all"
    )
    parser.addoption(
        "--kills", type=int, default=3, help="how often test_kills.py kills a training"
    )
    parser.addoption(
        "--malformed", type=int, default=105, help="how many inputs test_malformed.py damages"
    )
    parser.addoption(
        "--malformed-first", type=int, default=0, help="number of its first case, a seed"
    )


def pytest_configure():
    """Programs that tests start and interrupt inherit what a shell or ``nohup`` ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def handlers_are_as_before():
    """A tool that a test runs in this process takes its handlers of signals back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture(autouse=True)
def loading_is_as_before():
    """Take back what ``forbid_unsafe_loading`` of a tool that a test runs in this process sets."""
    before = os.environ.get(SWITCH)
    yield
    os.environ.pop(SWITCH, None)
    if before is not None:
        os.environ[SWITCH] = before


@pytest.fixture(autouse=True)
def no_closed_log_files():
    """A web server that starts closes all log files of its process; MMEngine would write on."""
    yield
    for logger in MMLogger._instance_dict.values():
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler) and handler.stream is None:
                logger.removeHandler(handler)
