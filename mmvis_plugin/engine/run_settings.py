"""What prepares a run: its folder, data, classes, weights, resuming, precision, result file."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from mmvis_plugin.checkpoint import (
    CheckpointDownloadError,
    CheckpointError,
    cached_path,
    check_checkpoint,
    is_url,
)
from mmvis_plugin.config import (
    ConfigError,
    class_counts,
    dataset_configs,
    dicts_in,
    load_config,
    pretrained_weights,
    shipped_configs,
    type_name,
)
from mmvis_plugin.files import check_writable, resource_root

from .dataset_version import how_to_make, named_version, require_data_version

# --- work directory ----------------------------------------------------------------------------


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set the folder for logs and checkpoints: given, else the config's, else by its name."""
    default = os.path.join("work_dirs", Path(cfg.filename).stem)
    cfg.work_dir = work_dir or cfg.get("work_dir") or default


def first_difference(cfg: Config) -> str | None:
    """The first setting that differs from the config file, in a line; None if none does.

    Args:
        cfg: Config of a run, changed by the command line.
    """
    original = dict(_leaves(load_config(cfg.filename)))
    new = {name: value for name, value in _leaves(cfg) if name not in ("work_dir", "launcher")}
    changed = [name for name, value in new.items() if original.get(name) != value]
    if not changed:
        return None
    first, more = changed[0], len(changed) - 1
    return f"{first} is {new[first]!r} instead of {original.get(first)!r} as in {cfg.filename}" + (
        f"; {more} more settings differ" if more else ""
    )


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a nested config that are no dicts, with their dotted names."""
    if not isinstance(node, dict | Config):
        yield name, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{name}.{key}".lstrip("."))


# --- data --------------------------------------------------------------------------------------


def require_data(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Make sure that the data of some data loaders is there before anything slow begins.

    Args:
        cfg: Config.
        dataloaders: For instance ``['test_dataloader']``.

    Raises:
        ConfigError: An annotation file or image folder is missing, or of another version than the
            config is for; the message says what makes it.
    """
    for name, dataset in dataset_configs(cfg, dataloaders):
        root = dataset["data_root"]
        # BaseDataset joins the same way: an absolute path stays.
        wanted = [_annotation_file(dataset)] if dataset.get("ann_file") else []
        prefixes = (dataset.get("data_prefix") or {}).values()
        wanted += [os.path.join(root, prefix) for prefix in prefixes if prefix]
        missing = [path for path in wanted if "://" not in path and not os.path.exists(path)]
        if missing:
            raise ConfigError(
                f"{' and '.join(missing)}, which {name} needs, cannot be found. "
                f"{_how_to_get(root, missing[0], named_version(dataset))}. "
                "If the data is elsewhere, point to it: --data-root DIR"
            )
        if dataset.get("ann_file"):
            require_data_version(name, dataset)


def _how_to_get(root: str, missing: str, version: int | None) -> str:
    """What makes a missing file or folder of a dataset."""
    converters = "python tools/dataset_converters"
    if made := re.fullmatch(r"(.+)_(?:sub-(?:train|val)|stride(\d+))\.json", missing):
        whole, stride = f"{made[1]}.json", made[2]
        if not os.path.isfile(whole):
            return _how_to_get(root, whole, version)  # comes first
        tool = f"lower_frame_rate.py {whole} --stride {stride}"
        return f"Create it: {converters}/{tool if stride else f'split_ytvis.py {whole}'}"
    folder, name = root.rstrip(os.sep), os.path.basename(missing)
    written = name in ("train.json", "valid.json") or not name.endswith(".json")
    if "shapes" in os.path.basename(folder) and (written or not os.path.isdir(folder)):
        return f"Create it: {how_to_make(folder, version)}"
    return "docs/datasets.md explains where to download the datasets and how to arrange the files"


def _annotation_file(dataset: dict) -> str:
    return os.path.join(dataset["data_root"], dataset["ann_file"])


# --- classes -----------------------------------------------------------------------------------


def require_class_counts(cfg: Config, classes: Sequence[str]) -> None:
    """Make sure that a model is built for the classes it is to be trained on.

    Args:
        cfg: Config.
        classes: Names of the training data's classes; none if they are not known.

    Raises:
        ConfigError: A part of the model is built for another number.
    """
    wrong = [f"{name} is {n}" for name, n in class_counts(cfg).items() if n != len(classes)]
    if classes and wrong:
        them = "it" if len(wrong) == 1 else "them"
        raise ConfigError(
            f"{_source_of_classes(cfg, 'train_dataloader')} has {len(classes)} classes "
            f"({_some(classes)}), but {' and '.join(wrong)}: set {them} to {len(classes)}"
        )


def require_classes(
    cfg: Config, trained: Sequence[str], classes: Sequence[str], checkpoint: str
) -> None:
    """Make sure that a model was trained on the classes it is to be tested on.

    Args:
        cfg: Config.
        trained: Class names of the checkpoint; none if it does not tell.
        classes: Class names of the test data; none if they are not known.
        checkpoint: Its name, for the message.

    Raises:
        ConfigError: They differ, or are in another order.
    """
    if not (trained and classes) or list(trained) == list(classes):
        return
    pairs = enumerate(zip_longest(trained, classes))
    first = next(number for number, (theirs, ours) in pairs if theirs != ours)
    raise ConfigError(
        f"{checkpoint} was trained on other classes than "
        f"{_source_of_classes(cfg, 'test_dataloader')} has ({len(trained)}: "
        f"{_some(trained, first)}; here {len(classes)}: {_some(classes, first)}): use the config "
        "of its dataset"
    )


def _source_of_classes(cfg: Config, dataloader: str) -> str:
    """The annotation file of a data loader, the first of them where it has several."""
    datasets = (dataset for _, dataset in dataset_configs(cfg, [dataloader]))
    files = (_annotation_file(dataset) for dataset in datasets if dataset.get("ann_file"))
    return next(files, dataloader)


def _some(names: Sequence[str], first: int = 0) -> str:
    """Three of some names, from one of them on."""
    before = ["..."] if first else []
    after = ["..."] if len(names) > first + 3 else []
    return ", ".join([*before, *names[first : first + 3], *after])


# --- weights -----------------------------------------------------------------------------------


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
            message = f"{name}: {error}, or start from random weights: --no-pretrained"
            raise CheckpointDownloadError(message) from error
        except CheckpointError as error:
            raise CheckpointError(
                f"{name}: {error} {_origin(path)}To start from random weights: --no-pretrained"
            ) from error


def _origin(weights: str) -> str:
    """What makes weights that the project ships, if they are of that kind."""
    config = shipped_configs().get(Path(weights).stem)
    if config is None:
        return ""
    command = f"tools/train.py {config.relative_to(resource_root())}"
    return f"It comes from `{command}` (`make weights` makes all). "


# --- training ----------------------------------------------------------------------------------


def use_auto_scale_lr(cfg: Config) -> None:
    """Let the learning rate follow the number of samples an iteration, over all processes.

    Args:
        cfg: Config, changed in place.

    Raises:
        ConfigError: It does not say for how many samples its learning rate is.
    """
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise ConfigError(
            "--auto-scale-lr needs the batch size that the learning rate of the config is for: "
            "set auto_scale_lr.base_batch_size"
        )
    cfg.auto_scale_lr.enable = True


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
    for name, node in list(dicts_in(cfg.optim_wrapper, "optim_wrapper")):
        if "optimizer" not in node:
            continue
        wrapper = node.get("type", "OptimWrapper")
        if wrapper not in ("OptimWrapper", "FiniteOptimWrapper", "AmpOptimWrapper"):
            raise ConfigError(
                f"--amp replaces OptimWrapper, but {name}.type is {wrapper}: set mixed "
                "precision in the config."
            )
        node["type"] = "AmpOptimWrapper"
        node.setdefault("loss_scale", "dynamic")


def keep_two_checkpoints(cfg: Config) -> None:
    """Keep two checkpoints where the config asks for one, and say so.

    MMEngine removes the oldest before it writes the new one: a run that is killed in between would
    have none.

    Args:
        cfg: Config, changed in place.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if hook.get("max_keep_ckpts") == 1:
        hook.max_keep_ckpts = 2
        print(
            "default_hooks.checkpoint.max_keep_ckpts is 2 instead of 1: the old checkpoint is "
            "removed before the new one is written, and a run killed in between would have none",
            flush=True,
        )


# --- testing -----------------------------------------------------------------------------------


def set_result_file(cfg: Config, path: str) -> None:
    """Let the test evaluator write its results.

    Args:
        cfg: Config, changed in place.
        path: File to write, ending in ``.json``.

    Raises:
        ConfigError: The config's test evaluator is not ``YTVISMetric``.
        OSError: The file cannot be written, which would be late to find out after the test.
    """
    evaluator = video_evaluator(cfg, "--out")
    check_writable(path)
    evaluator["outfile_prefix"] = path.removesuffix(".json")


def video_evaluator(cfg: Config, option: str) -> dict:
    """The test evaluator that takes the tracks of videos; configs of image models have none.

    Args:
        cfg: Config.
        option: What needs it, for the message.

    Raises:
        ConfigError: The config's test evaluator is not ``YTVISMetric``.
    """
    evaluators = cfg.get("test_evaluator")
    evaluators = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    for evaluator in filter(None, evaluators):
        if type_name(evaluator) == "YTVISMetric":
            return evaluator
    raise ConfigError(
        f"{option} is for the tracks of videos: it needs a config whose test_evaluator is a "
        "YTVISMetric, and that of an image model is not"
    )
