"""Errors as a user is to see them."""

import re


def message_of(error: Exception) -> str:
    """The message of an error, also where a worker process of a data loader raised it.

    PyTorch raises such an error anew and puts the worker's traceback in front of its message.

    Args:
        error: Any exception.
    """
    text = str(error)
    if re.match(r"Caught \w+ in .*\nOriginal Traceback", text):
        text = re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    return text.rstrip()
