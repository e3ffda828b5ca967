"""Checkpoints from anywhere, opened without running what is in them.

A checkpoint is a pickle, and a pickle can run any program. Whatever a user hands over
(``--resume``, ``load_from``, ``init_cfg``, a file for testing, demo or conversion) is therefore
opened with ``torch.load(weights_only=True)`` and refused if that fails. Importing this module tells
PyTorch which types the training checkpoints of MMEngine hold besides tensors; they load then, and
nothing else does.

It also lets MMEngine load addresses from where this module keeps them, so that what was checked is
what is loaded.
"""

import hashlib
import os
import pickle
import re
import reprlib
import zipfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from .fetching import DownloadError, fetch

# Methods that training checkpoints name: the statistics of the logged values and the annealing
# function of a one-cycle schedule. Pickle writes them as ``getattr(owner, name)``.
_PICKLED_METHODS = {
    HistoryBuffer: ("min", "max", "mean", "current"),
    OneCycleParamScheduler: ("_annealing_cos", "_annealing_linear"),
}


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or holds more than weights and training state."""


class CheckpointDownloadError(CheckpointError):
    """A checkpoint could not be downloaded."""


def _method(owner: type, name: str) -> Any:
    """Stand in for ``getattr`` in a checkpoint: the real one would reach any attribute."""
    if name not in _PICKLED_METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f"attribute {name!r} of {owner!r}")
    return getattr(owner, name)


def _named(function: Callable, path: str) -> Callable:
    """Stand in for a function under another path: PyTorch takes pairs of both from 2.6 on only."""

    def stand_in(*args):
        return function(*args)

    stand_in.__module__, _, stand_in.__name__ = path.rpartition(".")
    stand_in.__qualname__ = stand_in.__name__
    return stand_in


@cache
def _training_types() -> tuple:
    """What MMEngine's training checkpoints hold besides tensors and Python's basic types."""
    # numpy.core became numpy._core in NumPy 2: a file may come from either side.
    core = getattr(np, "_core", None) or np.core
    numpy_functions = [
        _named(getattr(core.multiarray, name), f"numpy.{package}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for package in ("core", "_core")
    ]
    numpy_dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efdSU"}
    return (
        *_PICKLED_METHODS,
        _named(_method, "builtins.getattr"),
        np.ndarray,
        np.dtype,
        *numpy_functions,
        *numpy_dtypes,
    )


def allow_training_types() -> None:
    """Let ``torch.load(weights_only=True)`` read the training checkpoints of MMEngine.

    Done when this module is imported, and before each load here: MMEngine's own loader takes some
    of the types off PyTorch's list again when it is done. PyTorch before 2.4 has no such list:
    there, plain weights load and a training checkpoint is refused.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([*_training_types()])


def is_url(path: str | os.PathLike) -> bool:
    """Whether ``path`` is an http(s) address."""
    return str(path).startswith(("http://", "https://"))


def download_folder() -> Path:
    """Where downloads are kept: PyTorch's cache, ``$TORCH_HOME/hub/checkpoints``."""
    return Path(torch.hub.get_dir(), "checkpoints")


def cached_path(url: str) -> Path:
    """Where the download of ``url`` is kept, in :func:`download_folder`.

    A name that ends in a hash of the content, as in PyTorch's and MMDetection's model zoos, stays
    as it is. Any other, such as ``epoch_12.pth``, may be of several files: it is told apart by the
    address.
    """
    name = Path(urlparse(url).path).name
    if not re.search(r"-[0-9a-f]{8,}\.\w+$", name):
        stem, suffix = os.path.splitext(name)
        name = f"{stem}_{hashlib.sha256(url.encode()).hexdigest()[:8]}{suffix}"
    return download_folder() / name


def local_checkpoint(path: str | os.PathLike) -> Path:
    """Path of a checkpoint on this machine, downloaded first if it is an address.

    Args:
        path: A file, or an http(s) address, see :func:`mmvis_plugin.fetching.fetch`.

    Returns:
        Path: An existing file.

    Raises:
        CheckpointDownloadError: The address cannot be downloaded.
        CheckpointError: There is no such file.
    """
    if not str(path):
        raise CheckpointError("a checkpoint has an empty name: set load_from to a file or to None")
    if not is_url(path):
        file = Path(path).expanduser()
        if not file.is_file():
            raise CheckpointError(f"The checkpoint {file} does not exist.")
        return file

    try:
        return fetch([str(path)], cached_path(str(path)))
    except DownloadError as error:
        raise CheckpointDownloadError(str(error)) from error


@CheckpointLoader.register_scheme(("http://", "https://"), force=True)
def load_from_http(url: str, map_location: Any = None) -> dict[str, Any]:
    """Load an address in MMEngine as a file that :func:`local_checkpoint` gives.

    Of several processes the first one downloads.

    Args:
        url: An http(s) address.
        map_location: As for ``torch.load``.

    Raises:
        CheckpointDownloadError: The address cannot be reached.
    """
    if is_main_process():
        local_checkpoint(url)
    barrier()
    return CheckpointLoader.load_checkpoint(str(local_checkpoint(url)), map_location)


def load_checkpoint_safely(
    path: str | os.PathLike, extra_types: Iterable[type] = ()
) -> dict[str, Any]:
    """Load a checkpoint without running code from it.

    Tensors come to the CPU; those of a file in today's (zip) format stay on disk until they are
    used, so that looking at a large checkpoint costs little.

    Args:
        path: A file or an http(s) address.
        extra_types: Harmless types to allow besides weights and MMEngine's training state, for
            example ``argparse.Namespace``.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointDownloadError: The address cannot be reached.
        CheckpointError: The file is missing or damaged, is no checkpoint, or holds anything else;
            its weights are NaN or infinite, or its meta cannot be right.
    """
    file = local_checkpoint(path)
    again = f" Delete {file} to download it again." if is_url(path) else ""
    try:
        is_zip = zipfile.is_zipfile(file)
        if is_zip:
            _require_uncompressed(file)
        with _types_allowed(extra_types):
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The checkpoint {file} was not loaded: it is damaged, or it holds more than weights "
            f"and training state, which could run any program on this machine "
            f"({_refused_globals(file) or _first_line(error)}). {_way_out()}{again}"
        ) from error
    except Exception as error:  # a damaged file raises nearly anything
        raise CheckpointError(
            f"The checkpoint {file} cannot be read; it is damaged or no checkpoint "
            f"({type(error).__name__}: {_first_line(error)}).{again}"
        ) from error
    if fault := _fault(checkpoint):
        raise CheckpointError(f"The checkpoint {file} {fault}.{again}")
    return checkpoint


def check_checkpoint(path: str | os.PathLike, extra_types: Iterable[type] = ()) -> Path:
    """Make sure that a checkpoint is there and loads without running code from it.

    Args and errors are those of :func:`load_checkpoint_safely`.

    Returns:
        Path: The file on this machine.
    """
    load_checkpoint_safely(path, extra_types)
    return local_checkpoint(path)


def fill_model(
    model: nn.Module, checkpoint: dict[str, Any], name: str | os.PathLike, config: str
) -> None:
    """Load the weights of a checkpoint into a model, every one of which must be there.

    What the checkpoint holds beyond the model, such as the discriminator of its training, stays
    unused.

    Args:
        model: The model, changed in place.
        checkpoint: Weights by themselves or under ``state_dict``; also those of a model inside of
            a wrapper for several processes.
        name: The checkpoint's name, for messages.
        config: The model's, for messages.

    Raises:
        CheckpointError: The model has parameters that the checkpoint lacks or has in other shapes.
    """
    state = checkpoint.get("state_dict", checkpoint)
    try:
        consume_prefix_in_state_dict_if_present(state, "module.")
        keys = model.load_state_dict(state, strict=False)
    except (AttributeError, RuntimeError, TypeError) as error:  # no tensors, or of other shapes
        raise CheckpointError(
            f"{name} does not fit {config}: {_misfit(error)}. {_USE_ITS_CONFIG}"
        ) from error
    missing, left_over = keys.missing_keys, keys.unexpected_keys
    if missing:
        raise CheckpointError(
            f"{name} does not fit {config}: it lacks {len(missing)} of the model's parameters "
            f"({_some(missing)}) and has {len(left_over)} that the model lacks "
            f"({_some(left_over)}). {_USE_ITS_CONFIG}"
        )


def _some(keys: list[str]) -> str:
    return ", ".join([*keys[:3], "..."] if len(keys) > 3 else keys) or "none"


_USE_ITS_CONFIG = "Use the config that it was trained with"


def _misfit(error: Exception) -> str:
    """What PyTorch found wrong with weights, the first of it."""
    pattern = r"size mismatch for (\S+): .*Size\((\[.*?\])\) from .*Size\((\[.*?\])\)"
    if not (found := re.findall(pattern, str(error))):
        return (str(error).splitlines() or [type(error).__name__])[-1].strip()
    parameter, theirs, ours = found[0]
    more = f", and {len(found) - 1} more parameters differ" if len(found) > 1 else ""
    return f"{parameter} is {theirs} in it and {ours} in the model{more}"


def class_names(checkpoint: dict[str, Any]) -> tuple[str, ...]:
    """Names of the classes that a model was trained on; empty if its checkpoint has none.

    MMEngine stores them in the dataset's meta, MMDetection 2 stored them in the meta itself.
    """
    return tuple(_stated_classes(checkpoint))


def category_ids(checkpoint: dict[str, Any]) -> tuple[int, ...]:
    """Ids of these classes in the training data's annotations; empty if the checkpoint has none."""
    return tuple(_dataset_meta(checkpoint).get("category_ids") or ())


def _stated_classes(checkpoint: dict[str, Any]) -> Any:
    meta = checkpoint.get("meta") or {}
    stated = _dataset_meta(checkpoint).get("classes"), meta.get("CLASSES")
    return next((names for names in stated if names is not None), ())


def dataset_version(checkpoint: dict[str, Any]) -> int:
    """Version of ShapesVIS that a model was trained on; 1 if its checkpoint names none.

    Checkpoints of version 1 were written before there was another one.
    """
    return _dataset_meta(checkpoint).get("dataset_version", 1)


def _dataset_meta(checkpoint: dict[str, Any]) -> dict[str, Any]:
    meta = checkpoint.get("meta") or {}
    return {str(key).lower(): value for key, value in (meta.get("dataset_meta") or {}).items()}


def _require_uncompressed(file: Path) -> None:
    """Refuse a ZIP that unpacks to more than its own size, before it is unpacked.

    PyTorch stores tensors uncompressed, so that it can map them into memory.
    """
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > file.stat().st_size:
        raise CheckpointError(
            f"The checkpoint {file} was not loaded: it is compressed and would unpack from "
            f"{file.stat().st_size} to {unpacked} bytes. PyTorch writes checkpoints uncompressed: "
            "get the original file."
        )


# --- contents that cannot be right -------------------------------------------------------------


def _fault(checkpoint: Any) -> str | None:
    """What is wrong with the contents of a checkpoint, as the end of a sentence."""
    if not isinstance(checkpoint, dict):
        return f"holds a {type(checkpoint).__name__}, not a dict of weights"
    return _fault_of_weights(checkpoint.get("state_dict", checkpoint)) or _fault_of_meta(checkpoint)


def _fault_of_weights(weights: Any) -> str | None:
    if not isinstance(weights, dict):
        return f"has a {type(weights).__name__} as its state_dict, not a dict of weights"
    tensors = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    wrong = [name for name, value in tensors.items() if not _is_finite(value)]
    if not wrong:
        return None
    return (
        f"has values that are NaN or infinite in {len(wrong)} of its {len(tensors)} tensors "
        f"({wrong[0]}, ...): the training diverged, take an earlier checkpoint"
    )


def _is_finite(tensor: torch.Tensor) -> bool:
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return True
    if tensor.layout is not torch.strided:
        return True
    # An expanded tensor is small in the file and may be of any size: look at each value once.
    distinct = tensor[tuple(slice(None if stride else 1) for stride in tensor.stride())]
    return bool(torch.isfinite(distinct).all())


def _fault_of_meta(checkpoint: dict[str, Any]) -> str | None:
    parent = checkpoint
    for place in ("meta", "dataset_meta"):
        value = parent.get(place)
        if not isinstance(value, dict | None):
            return f"has a {type(value).__name__} as its {place}, not a dict"
        parent = value or {}
    names, ids = _stated_classes(checkpoint), _dataset_meta(checkpoint).get("category_ids")
    return _fault_of_names(names) or _fault_of_ids(ids)


def _fault_of_names(names: Any) -> str | None:
    if not isinstance(names, list | tuple):
        return f"has a {type(names).__name__} as its class names, not a list of texts"
    wrong = [name for name in names if not (isinstance(name, str) and name.strip())]
    if wrong:
        return f"has {reprlib.repr(wrong[0])} among its class names, which must be texts"
    repeated = [name for name in names if names.count(name) > 1]
    return f"names the class {reprlib.repr(repeated[0])} twice" if repeated else None


def _fault_of_ids(ids: Any) -> str | None:
    if ids is None:
        return None
    whole = isinstance(ids, list | tuple) and all(type(number) is int for number in ids)
    return None if whole else "has category_ids that are not whole numbers"


# --- loading -----------------------------------------------------------------------------------


@contextmanager
def _types_allowed(extra_types: Iterable[type]):
    allow_training_types()
    extra_types = list(extra_types)
    if not extra_types or not hasattr(torch.serialization, "add_safe_globals"):
        yield
    else:
        # Not PyTorch's context manager for this, which 2.4 has not.
        before = torch.serialization.get_safe_globals()
        torch.serialization.add_safe_globals(extra_types)
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _way_out() -> str:
    if hasattr(torch.serialization, "add_safe_globals"):
        return "Get a file with plain weights."
    return (
        f"PyTorch {torch.__version__} opens plain weights only; from 2.4 on it opens training "
        "checkpoints, too."
    )


def _refused_globals(file: Path) -> str:
    """Names of what PyTorch refused in ``file``, as far as it can tell."""
    try:
        refused = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # old format, old PyTorch or a damaged file: the caller has the error itself
        return ""
    return ", ".join(sorted(refused))


def _first_line(error: Exception) -> str:
    """The reason in an exception, which PyTorch hides in a page of advice to turn the check off."""
    text = str(error.__context__ or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


allow_training_types()
