"""What the command line tools do to a config before the Runner sees it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from .checkpoint import (
    CheckpointDownloadError,
    CheckpointError,
    cached_path,
    check_checkpoint,
    is_url,
    load_checkpoint_safely,
)

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")


class ConfigError(ValueError):
    """A config, or a command line option about it, that cannot be used."""


def load_config(
    path: str, options: dict[str, Any] | None = None, data_roots: Sequence[str] = ()
) -> Config:
    """Read a config file and apply the options every tool has.

    Args:
        path: Config file.
        options: ``--cfg-options``, by dotted key.
        data_roots: ``--data-root``, see :func:`set_data_root`.

    Returns:
        Config: The config.

    Raises:
        ConfigError: There is no such file, or an option does not fit it.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"The config file {path} does not exist.")
    cfg = Config.fromfile(path)
    if options:
        cfg.merge_from_dict(options)
    set_data_root(cfg, data_roots)
    return cfg


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set the folder for logs and checkpoints: given, else the config's, else by its name."""
    default = os.path.join("work_dirs", Path(cfg.filename).stem)
    cfg.work_dir = work_dir or cfg.get("work_dir") or default


# --- data -------------------------------------------------------------------------------------


def set_data_root(cfg: Config, data_roots: Sequence[str]) -> None:
    """Move the data of a config.

    Every path in the data loaders (nested datasets included) and evaluators that begins with the
    old data root begins with the new one afterwards.

    Args:
        cfg: Config, changed in place.
        data_roots: One folder, or ``OLD=NEW`` for each that moves, where the datasets of a config
            have several. Empty: nothing is moved.

    Raises:
        ConfigError: One folder for several roots, or a root that no dataset has.
    """
    if not data_roots:
        return
    old_roots = list(dict.fromkeys(_folder(d["data_root"]) for _, d in dataset_configs(cfg)))
    if len(data_roots) == 1 and "=" not in data_roots[0]:
        if len(old_roots) != 1:
            options = " ".join(f"--data-root {old}=DIR" for old in old_roots)
            raise ConfigError(
                "--data-root DIR needs datasets with one data_root between them, which this config "
                f"does not have. {'Move each by itself: ' + options if options else ''}"
            )
        data_roots = [f"{old_roots[0]}={data_roots[0]}"]
    moves = dict(map(_split_move, data_roots))
    unknown = [old for old in moves if old not in old_roots]
    if unknown:
        raise ConfigError(
            f"No dataset of the config has the data_root {', '.join(unknown)}; "
            f"there are: {', '.join(old_roots)}"
        )

    def moved(value: Any) -> Any:
        for old, new in moves.items():
            if isinstance(value, str) and (value + os.sep).startswith(old):
                return new + value[len(old) :]
        return value

    for name in (*DATALOADERS, *EVALUATORS):
        if cfg.get(name) is not None:
            cfg[name] = _mapped(cfg[name], moved)


def dataset_configs(cfg: Config, dataloaders: Sequence[str] = DATALOADERS) -> Iterator:
    """Datasets with a ``data_root`` in the data loaders, those in wrappers included.

    Yields:
        tuple[str, dict]: Dotted name and config of a dataset.
    """
    for name in dataloaders:
        for path, node in _dicts(cfg.get(name), name):
            if node.get("data_root"):
                yield path, node


def require_data(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Make sure that the data of some data loaders is there before anything slow begins.

    Args:
        cfg: Config.
        dataloaders: For instance ``['test_dataloader']``.

    Raises:
        ConfigError: An annotation file or image folder is missing; the message says what makes it.
    """
    for name, dataset in dataset_configs(cfg, dataloaders):
        root = dataset["data_root"]
        # BaseDataset joins the same way: an absolute path stays.
        wanted = [os.path.join(root, dataset["ann_file"])] if dataset.get("ann_file") else []
        prefixes = (dataset.get("data_prefix") or {}).values()
        wanted += [os.path.join(root, prefix) for prefix in prefixes if prefix]
        missing = [path for path in wanted if "://" not in path and not os.path.exists(path)]
        if missing:
            raise ConfigError(
                f"{' and '.join(missing)}, which {name} needs, cannot be found. "
                f"{_how_to_get(root, missing[0])} "
                "If the data is elsewhere, point to it: --data-root DIR"
            )


def _how_to_get(root: str, missing: str) -> str:
    converters = "python tools/dataset_converters"
    if "shapes" in root:
        return f"Create it: {converters}/make_shapes_vis.py --out {root.rstrip(os.sep)}"
    folder, name = os.path.split(missing)
    whole = os.path.join(folder, name.split("_sub-")[0] + ".json")
    if "_sub-" in name and os.path.isfile(whole):
        return f"Create it: {converters}/split_ytvis.py {whole}"
    return "docs/datasets.md tells where to download the datasets and how to lay them out."


def _folder(path: str) -> str:
    return path.rstrip(os.sep) + os.sep


def _split_move(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        raise ConfigError(f"With several --data-root each is OLD=NEW, not {text!r}")
    return _folder(old), _folder(new)


# --- weights ----------------------------------------------------------------------------------


def pretrained_weights(cfg: Config) -> dict[str, str]:
    """Weights the config starts from.

    Returns:
        dict: File or address by its place in the config: ``load_from`` and, anywhere in the model,
        ``init_cfg`` of type ``Pretrained``.
    """
    found = {name: node["checkpoint"] for name, node in _dicts(cfg.model, "model") if _loads(node)}
    if cfg.get("load_from"):
        found["load_from"] = cfg.load_from
    return found


def remove_pretrained(cfg: Config) -> dict[str, str]:
    """Let the model begin with random weights.

    Args:
        cfg: Config, changed in place: no ``load_from`` and no ``init_cfg`` of type ``Pretrained``.

    Returns:
        dict: What was removed, as :func:`pretrained_weights` gives it.
    """
    removed = pretrained_weights(cfg)
    cfg.model = _without(cfg.model, _loads)
    cfg.load_from = None
    return removed


def check_pretrained(cfg: Config) -> None:
    """Download the weights a config starts from and make sure that they are plain weights.

    In a run of several processes only the first of each machine downloads.

    Raises:
        CheckpointError: Weights are missing, cannot be downloaded or hold more than weights; the
            message names the place in the config and the way to start without them.
    """
    others_download = int(os.environ.get("LOCAL_RANK", 0)) != 0
    for name, path in pretrained_weights(cfg).items():
        if "://" in path and not is_url(path):
            continue  # model zoo names are MMEngine's to resolve
        if is_url(path) and others_download and not cached_path(path).exists():
            continue
        try:
            check_checkpoint(path)
        except CheckpointDownloadError as error:
            message = f"{name}: {error}, or start without: --no-pretrained"
            raise CheckpointDownloadError(message) from error
        except CheckpointError as error:
            message = f"{name}: {error} To start without it: --no-pretrained"
            raise CheckpointError(message) from error


def _loads(node: Any) -> bool:
    if not isinstance(node, dict) or not node.get("checkpoint"):
        return False
    kind = node.get("type")
    return getattr(kind, "__name__", kind) in ("Pretrained", "PretrainedInit")


# --- resuming ---------------------------------------------------------------------------------


def set_resume(cfg: Config, resume: str) -> None:
    """Let a run go on from a checkpoint, with the checkpoint's seed.

    MMEngine takes the seed of the checkpoint too, but only after it has seeded the data with the
    config's.

    Args:
        cfg: Config with ``work_dir``, changed in place.
        resume: A checkpoint, or ``'auto'`` for the latest in ``work_dir``; where there is none yet
            the run begins as the config says.

    Raises:
        CheckpointError: The checkpoint is missing, unsafe, damaged, or not one of a training run.
    """
    if resume == "auto":
        resume = latest_checkpoint(cfg.work_dir)
        if resume is None:
            print(f"Nothing to resume in {cfg.work_dir}: training from the start.", flush=True)
            cfg.resume = False
            return
    checkpoint = load_checkpoint_safely(resume)
    if not {"meta", "optimizer", "message_hub"} <= checkpoint.keys():
        raise CheckpointError(
            f"{resume} holds weights but not the state of a training run, so it cannot be "
            f"resumed. To start from its weights: --cfg-options load_from={resume}"
        )
    cfg.resume, cfg.load_from = True, str(resume)
    set_seed(cfg, checkpoint["meta"].get("seed"))
    print(f"Resuming from {resume}.", flush=True)


def set_seed(cfg: Config, seed: int | None) -> None:
    """Set the seed of the run unless it is None."""
    if seed is not None:
        cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)


def latest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint a run in ``work_dir`` wrote last.

    That is the one named in the file ``last_checkpoint``. Where a kill left that file empty, or
    ``work_dir`` has moved since, it is looked for in ``work_dir``.
    """
    folder = Path(work_dir)
    record = folder / "last_checkpoint"
    named = record.read_text().strip() if record.is_file() else ""
    for path in (Path(named), folder / Path(named).name):
        if named and path.is_file():
            return str(path)
    if not record.is_file():
        return None
    saved = [*folder.glob("iter_*.pth"), *folder.glob("epoch_*.pth")]
    return str(max(saved, key=lambda path: path.stat().st_mtime)) if saved else None


# --- training ---------------------------------------------------------------------------------


def use_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Args:
        cfg: Config, changed in place: its optimizer wrapper or, where a model has several
            optimizers, the wrapper of each.

    Raises:
        ConfigError: There is no accelerator, or the config has an optimizer wrapper of its own.
    """
    if get_device() in ("cpu", "mps"):
        raise ConfigError(
            "--amp trains in mixed precision on a GPU, and PyTorch finds none here. Leave it out."
        )
    for name, node in list(_dicts(cfg.optim_wrapper, "optim_wrapper")):
        if "optimizer" not in node:
            continue
        wrapper = node.get("type", "OptimWrapper")
        if wrapper not in ("OptimWrapper", "AmpOptimWrapper"):
            raise ConfigError(
                f"--amp replaces OptimWrapper, but {name}.type is {wrapper}: set mixed "
                "precision in the config."
            )
        node["type"] = "AmpOptimWrapper"
        node.setdefault("loss_scale", "dynamic")


# --- testing ----------------------------------------------------------------------------------


def remove_discriminator(cfg: Config) -> None:
    """Leave out of the model what only trains beside it.

    Args:
        cfg: Config, changed in place.
    """
    if cfg.model.get("discriminator"):
        cfg.model.discriminator = None


def set_result_file(cfg: Config, path: str) -> None:
    """Let the test evaluator write its results.

    Args:
        cfg: Config, changed in place.
        path: File to write, ending in ``.json``.

    Raises:
        ConfigError: The config's test evaluator is not ``YTVISMetric``.
    """
    evaluators = cfg.get("test_evaluator")
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        if evaluator and evaluator["type"] == "YTVISMetric":
            evaluator["outfile_prefix"] = path.removesuffix(".json")
            return
    raise ConfigError("--out needs a config whose test_evaluator is a YTVISMetric.")


# --- walking through configs ------------------------------------------------------------------


def _dicts(node: Any, name: str) -> Iterator[tuple[str, dict]]:
    """Every dict in a nested config, with its dotted name."""
    if isinstance(node, dict):
        yield name, node
        for key, value in node.items():
            yield from _dicts(value, f"{name}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _dicts(value, f"{name}.{index}")


def _mapped(node: Any, function: Callable[[Any], Any]) -> Any:
    """A nested config with ``function`` applied to every value that is no dict or list."""
    if isinstance(node, dict):
        return type(node)({key: _mapped(value, function) for key, value in node.items()})
    if isinstance(node, list | tuple):
        return type(node)(_mapped(value, function) for value in node)
    return function(node)


def _without(node: Any, unwanted: Callable[[Any], bool]) -> Any:
    """A nested config without the values and list items that are ``unwanted``."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if not unwanted(value)}
        return type(node)({key: _without(value, unwanted) for key, value in kept.items()})
    if isinstance(node, list | tuple):
        return type(node)(_without(value, unwanted) for value in node if not unwanted(value))
    return node
