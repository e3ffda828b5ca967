"""The folder of a training: one training at a time, and the checkpoints that are in it."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mmvis_plugin.config import ConfigError
from mmvis_plugin.files import natural_key
from mmvis_plugin.processes import this_process

LOCK = ".training"
# What a file system without locks answers.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class WorkDirInUseError(ConfigError):
    """Another training writes to the work directory."""


@contextmanager
def locked(work_dir: str | os.PathLike) -> Iterator[None]:
    """Keep other trainings out of a work directory, and clean up after one that was killed.

    The lock belongs to this process: however the process ends, the system releases it, on other
    machines that share the folder too. Data loader workers do not inherit it.

    Args:
        work_dir: The folder; made if missing.

    Raises:
        WorkDirInUseError: Another training has the folder; the message names its process.
    """
    path = Path(work_dir, LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked_file(path) as file:
        if owner := file.read().strip():
            print(f"{work_dir}: {owner} was stopped before it finished.", flush=True)
        remove_leftovers(path.parent)
        file.seek(0)
        file.truncate()
        file.write(f"the training of {this_process()}, started {time.strftime('%F %T')},")
        file.flush()
        yield
        path.unlink(missing_ok=True)


def _locked_file(path: Path) -> TextIO:
    """An open file that this process alone has locked."""
    while True:
        file = open(path, "a+")  # noqa: SIM115  the caller closes it
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise WorkDirInUseError(_in_use(path.parent, file)) from error
        # The training before may have removed the file after this one opened it. (To open and
        # close the file again would release the lock.)
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            file.seek(0)
            return file
        file.close()


def _in_use(folder: Path, file: TextIO) -> str:
    with file:
        file.seek(0)
        owner = file.read().strip() or "another training"
    return (
        f"{folder} is in use: {owner} writes to it. Wait for it or stop it, or choose another "
        "--work-dir"
    )


def remove_leftovers(folder: Path) -> None:
    """Remove the half-written checkpoints of trainings that were killed."""
    for path in folder.glob(".[ieb]*_*.partial.pth"):  # .iter_, .epoch_ and .best_
        path.unlink()
        print(f"Removed {path}, which a killed training left half-written.", flush=True)


def saved_checkpoints(work_dir: str | os.PathLike) -> list[Path]:
    """The checkpoints of a training, the newest first.

    The newest is the one that the file ``last_checkpoint`` names, or one that was written after it
    before a kill. Its name is looked for in ``work_dir`` first, which may have been moved or copied
    since; a copy may have changed the times of the files.

    Args:
        work_dir: Folder of the training.
    """
    folder = Path(work_dir)
    saved = [*folder.glob("iter_*.pth"), *folder.glob("epoch_*.pth")]
    saved.sort(key=lambda path: (path.stat().st_mtime, natural_key(path.name)), reverse=True)
    record = folder / "last_checkpoint"
    text = record.read_text(errors="replace").strip() if record.is_file() else ""
    named = next((p for p in (folder / Path(text).name, Path(text)) if text and p.is_file()), None)
    if named is None:
        return saved
    newer = [path for path in saved if _was_written_after(path, named)]
    return [*newer, named, *(path for path in saved if path not in (*newer, named))]


def _was_written_after(path: Path, other: Path) -> bool:
    later = path.stat().st_mtime > other.stat().st_mtime
    return later and natural_key(path.name) > natural_key(other.name)
