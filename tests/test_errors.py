from torch._utils import ExceptionWrapper

from mmvis_plugin.datasets import DatasetError
from mmvis_plugin.errors import message_of


def from_worker(error):
    """The error as it comes out of a data loader if one of its workers raises it."""
    try:
        try:
            raise ValueError("of a decoder")
        except ValueError as cause:
            raise error from cause
    except Exception:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    try:
        wrapper.reraise()
    except type(error) as caught:
        return caught


def test_the_message_of_an_error_is_without_the_traceback_of_a_worker():
    for error in (DatasetError("a/0.jpg is cut off"), OSError("no file"), ValueError("two\nlines")):
        caught = from_worker(error)
        assert len(str(caught).splitlines()) > 10
        assert message_of(caught) == message_of(error) == str(error)
