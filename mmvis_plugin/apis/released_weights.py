"""The weights of a released model: their licence, the download, and the conversion."""

import hashlib
import sys
from pathlib import Path

from mmvis_plugin.checkpoint import CheckpointDownloadError, CheckpointError, download_folder
from mmvis_plugin.fetching import DownloadError, fetch
from mmvis_plugin.files import locked, write_text

from .conversion import convert_weights
from .releases import Release

# Licences that allow any use of the weights; the user need not agree to them.
FREE_LICENCES = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "MIT"}


class LicenceError(CheckpointError):
    """The user has not agreed to the licence of weights."""


def find_weights(release: Release, accept_licence: bool = False) -> Path | None:
    """The weights of a released model in our layout; downloaded and converted if necessary.

    Both the downloaded file and the converted one are kept in PyTorch's cache
    (``$TORCH_HOME/hub/checkpoints``).

    Args:
        release: The model.
        accept_licence: Agree to a licence that limits the use of the weights, or to the lack of
            one. Otherwise the user is asked on a terminal. Either is necessary only once.

    Returns:
        Path: The file; None if no weights are released.

    Raises:
        CheckpointDownloadError: The weights cannot be downloaded, or are not the right file.
        LicenceError: The user has not agreed to the licence.
        CheckpointError: The file cannot be converted.
    """
    if release.file is None or release.is_shipped:
        return release.file
    if release.code_base and release.model_file.is_file():
        return release.model_file
    require_licence(release, accept_licence)
    try:
        file = fetch(release.addresses, release.file, release.sha256)
    except DownloadError as error:
        raise CheckpointDownloadError(f"{release.name}: {error}") from error
    return _converted(release, file) if release.code_base else file


def _converted(release: Release, file: Path) -> Path:
    with locked(release.model_file):
        if not release.model_file.is_file():  # no other process has converted it in the meantime
            convert_weights(release.code_base, file, release.model_file, release.config)
    return release.model_file


# --- licences ----------------------------------------------------------------------------------


def require_licence(release: Release, accepted: bool = False) -> None:
    """Make sure that the user has agreed to a licence that limits the use of weights.

    The agreement is remembered in a file in the cache.

    Args:
        release: The model.
        accepted: The user agrees; otherwise a terminal asks.

    Raises:
        LicenceError: The user does not agree, or cannot be asked.
    """
    if release.licence in FREE_LICENCES:
        return
    notice = licence_notice(release)
    agreement = _agreement(notice)
    if agreement.is_file():
        return
    print(notice, file=sys.stderr, flush=True)
    if not (accepted or _user_agrees()):
        raise LicenceError(
            f"{release.name}: its weights were not downloaded, because you have not agreed to "
            "their licence. To agree, add --accept-licence (in Python: accept_licence=True)"
        )
    write_text(notice, agreement)


def licence_notice(release: Release) -> str:
    """What the user must know about a licence; the same for all weights of a source."""
    if release.licence:
        return (
            f"The licence of the weights from {release.source} limits their use: {release.licence}."
        )
    return (
        f"No licence is stated for the weights from {release.source}. Without one, you need the "
        "permission of their authors for most uses."
    )


def _agreement(notice: str) -> Path:
    name = hashlib.sha256(notice.encode()).hexdigest()[:16]
    return download_folder() / f"accepted_licence_{name}.txt"


def _user_agrees() -> bool:
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("Do you agree to this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
