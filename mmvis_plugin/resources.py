"""Where the configs and the weights that come with the package lie."""

from pathlib import Path


def resource_root() -> Path:
    """The directory that holds ``configs/`` and ``weights/``, in a checkout as in a wheel."""
    return Path(__file__).resolve().parent
