"""What the command line tools do to a config before the Runner sees it."""

import difflib
import inspect
import linecache
import os
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from mmvis_plugin.files import resource_root

from .checkpoint import (
    CheckpointDownloadError,
    CheckpointError,
    cached_path,
    check_checkpoint,
    is_url,
    load_checkpoint_safely,
)
from .files import check_writable

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")

# What is read of a config: the Runner's arguments, what it looks up later, and what is our own.
KEYS = {
    *inspect.signature(Runner).parameters,
    "activation_checkpointing",
    "compile",
    "custom_imports",
    "efficient_conv_bn_eval",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "sync_bn",
    "shipped_weights",
} - {"cfg"}

# Options of make_shapes_vis.py by the end of a data root.
SHAPES_OPTIONS = {
    "_large": " --videos 1200 60",
    **{f"_{name}": f" --categories {name}" for name in ("ytvis19", "ytvis21", "ovis")},
}

CLASS_COUNTS = ("num_classes", "num_things_classes")  # what heads call the number of classes
# Parts of a model whose classes, where they have any, are not those of the dataset.
OTHER_CLASSES = {"backbone", "reid", "rpn_head", "semantic_head"}


class ConfigError(ValueError):
    """A config, or a command line option about it, that cannot be used."""


class ConfigNotFoundError(ConfigError, FileNotFoundError):
    """There is no such config."""


# --- reading ----------------------------------------------------------------------------------


def load_config(
    path: str | os.PathLike, options: dict[str, Any] | None = None, data_roots: Sequence[str] = ()
) -> Config:
    """Read a config and apply the options every tool has.

    Args:
        path: Config file, or the name of a config that comes with the package.
        options: ``--cfg-options``, see :func:`set_options`.
        data_roots: ``--data-root``, see :func:`set_data_root`.

    Returns:
        Config: The config.

    Raises:
        ConfigNotFoundError: There is no such config.
        ConfigError: It cannot be read, or an option does not fit it.
    """
    cfg = _read(path)
    set_options(cfg, options or {})
    set_data_root(cfg, data_roots)
    stop_persisting_without_workers(cfg)
    return cfg


def find_config(config: str | os.PathLike) -> Path:
    """The file of a config.

    Args:
        config: A file, or the name of a config that comes with the package, with or without
            ``.py``: ``maskprop_r18_shapes``.

    Raises:
        ConfigNotFoundError: There is neither; the message names configs whose names are close.
    """
    path = Path(config)
    if path.is_file():
        return path
    shipped = shipped_configs()
    name = path.name.removesuffix(".py")
    if path.name == str(config) and name in shipped:
        return shipped[name]
    raise ConfigNotFoundError(
        f"{config}: no such config file, and none of the {len(shipped)} configs that come with "
        f"the package has this name{_close_to(name, shipped)}"
    )


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    return {path.stem: path for path in (resource_root() / "configs").glob("[!_]*/*.py")}


def set_options(cfg: Config, options: dict[str, Any]) -> None:
    """Replace settings of a config.

    Args:
        cfg: Config, changed in place.
        options: Values by dotted key: ``{'train_dataloader.batch_size': 1}``.

    Raises:
        ConfigError: Nothing reads such a setting, it is a misspelled one, or it lies inside of
            something that is no dict.
    """
    known = {*cfg.keys(), *KEYS}
    for option in options:
        key = option.split(".")[0]
        if key not in known:
            raise ConfigError(
                f"option {option}: the config has no {key}, and MMEngine knows none"
                f"{_close_to(key, known)}"
            )
        _require_spelling(cfg, option)
    try:
        cfg.merge_from_dict(options)
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"options {', '.join(options)}: {_in_one_line(error)}") from error


def _require_spelling(cfg: Config, option: str) -> None:
    """Refuse a new key that resembles a present one, in a dict that is the arguments of no class.

    A class refuses what it does not take, when it is built. Nothing knows all the keys of other
    dicts: hooks and multipliers have names, and a model reads of train_cfg what it likes. There a
    key that resembles no other passes.
    """
    parts = option.split(".")
    nodes = dict(_dicts(cfg.get(parts[0]), parts[0]))
    for depth, key in enumerate(parts[1:], start=1):
        place = ".".join(parts[:depth])
        node = nodes.get(place, {})
        if key in node or "type" in node:
            continue
        if close := _close_to(key, map(str, node), cutoff=0.8):
            raise ConfigError(f"option {option}: {place} has no {key}{close}")


def _read(path: str | os.PathLike) -> Config:
    file = find_config(path)
    if file.suffix in (".pth", ".pt"):
        raise ConfigError(f"{path} is a checkpoint, not a config: the order is CONFIG CHECKPOINT")
    try:
        return Config.fromfile(file)
    except SyntaxError as error:
        source = linecache.getline(str(file), error.lineno)
        own = source.strip() == (error.text or source).strip()
        line = f"line {error.lineno}" if own else f"line {error.lineno} of one of its bases"
        raise ConfigError(f"{path} cannot be read as a config: {line}: {error.msg}") from error
    except Exception as error:  # a config is a program: it can fail in any way
        raise ConfigError(f"{path} cannot be read as a config: {_mistake(error)}") from error


def _mistake(error: Exception) -> str:
    """What went wrong in a config, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    # The config, or the one of its bases that fails, runs as a module.
    where = next((f"{f.filename}, line {f.lineno}: " for f in frames if f.name == "<module>"), "")
    cause = error.__cause__ or error
    return f"{where}{type(cause).__name__}: {_in_one_line(cause)}"


def _close_to(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
    return f"; close to it: {', '.join(close)}" if close else ""


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set the folder for logs and checkpoints: given, else the config's, else by its name."""
    default = os.path.join("work_dirs", Path(cfg.filename).stem)
    cfg.work_dir = work_dir or cfg.get("work_dir") or default


# --- building ---------------------------------------------------------------------------------


@contextmanager
def naming_settings(cfg: Config) -> Iterator[None]:
    """Within this context, a setting that fits no class is a :class:`ConfigError`.

    The errors of Python and MMEngine name the setting, but not its place in the config.

    Args:
        cfg: Config from which something is built.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        problems = _wrong_settings(cfg, str(error))
        if not problems:
            raise  # not the config's mistake
        raise ConfigError("; ".join(problems)) from error


def _wrong_settings(cfg: Config, message: str) -> list[str]:
    """The settings that an error from building a config speaks of."""
    nodes = [node for part in sorted(KEYS & cfg.keys()) for node in _dicts(cfg[part], part)]
    if found := re.search(r"(\w+) is not in the \S+ registry", message):
        places = (name for name, node in nodes if _type_name(node) == found[1])
        return [f"{name}.type: there is no {found[1]}" for name in places]
    if found := re.search(r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", message):
        owner, key = found.groups()
        places = [(name, _type_name(node) or owner) for name, node in nodes if key in node]
        # A class may hand the argument on to the one it inherits from, which the error names.
        places = [place for place in places if place[1] == owner] or places
        return [f"{name}.{key}: {kind} takes no such argument" for name, kind in places]
    return []


# --- data -------------------------------------------------------------------------------------


def stop_persisting_without_workers(cfg: Config) -> None:
    """Let ``num_workers=0`` do by itself: PyTorch refuses it beside ``persistent_workers``.

    Args:
        cfg: Config, changed in place.
    """
    for name in DATALOADERS:
        if cfg.get(name) and not cfg[name].get("num_workers"):
            cfg[name].persistent_workers = False


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
        wanted = [_annotation_file(dataset)] if dataset.get("ann_file") else []
        prefixes = (dataset.get("data_prefix") or {}).values()
        wanted += [os.path.join(root, prefix) for prefix in prefixes if prefix]
        missing = [path for path in wanted if "://" not in path and not os.path.exists(path)]
        if missing:
            raise ConfigError(
                f"{' and '.join(missing)}, which {name} needs, cannot be found. "
                f"{_how_to_get(root, missing[0])}. "
                "If the data is elsewhere, point to it: --data-root DIR"
            )


def _how_to_get(root: str, missing: str) -> str:
    """What makes a missing file or folder of a dataset."""
    converters = "python tools/dataset_converters"
    if made := re.fullmatch(r"(.+)_(?:sub-(?:train|val)|stride(\d+))\.json", missing):
        whole, stride = f"{made[1]}.json", made[2]
        if not os.path.isfile(whole):
            return _how_to_get(root, whole)  # comes first
        tool = f"lower_frame_rate.py {whole} --stride {stride}"
        return f"Create it: {converters}/{tool if stride else f'split_ytvis.py {whole}'}"
    folder, name = root.rstrip(os.sep), os.path.basename(missing)
    written = name in ("train.json", "valid.json") or not name.endswith(".json")
    if "shapes" in os.path.basename(folder) and (written or not os.path.isdir(folder)):
        options = (text for end, text in SHAPES_OPTIONS.items() if folder.endswith(end))
        return f"Create it: {converters}/make_shapes_vis.py --out {folder}{next(options, '')}"
    return "docs/datasets.md tells where to download the datasets and how to lay them out"


def _annotation_file(dataset: dict) -> str:
    return os.path.join(dataset["data_root"], dataset["ann_file"])


def _folder(path: str) -> str:
    return path.rstrip(os.sep) + os.sep


def _split_move(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        raise ConfigError(f"With several --data-root each is OLD=NEW, not {text!r}")
    return _folder(old), _folder(new)


# --- classes ----------------------------------------------------------------------------------


def class_counts(cfg: Config) -> dict[str, int]:
    """Numbers of classes that the model's parts are built for, by dotted name."""
    return {
        f"{name}.{key}": node[key]
        for name, node in _dicts(cfg.model, "model")
        for key in CLASS_COUNTS
        if isinstance(node.get(key), int)
    }


def require_class_counts(cfg: Config, classes: Sequence[str]) -> None:
    """Make sure that a model is built for the classes it is to be trained on.

    Args:
        cfg: Config.
        classes: Names of the training data's classes; none if they are not known.

    Raises:
        ConfigError: A part of the model is built for another number.
    """
    wrong = [
        f"{name} is {count}"
        for name, count in class_counts(cfg).items()
        if count != len(classes) and not OTHER_CLASSES & {*name.split(".")}
    ]
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
    return {name: p if "://" in p else os.path.normpath(p) for name, p in found.items()}


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


def _loads(node: Any) -> bool:
    if not isinstance(node, dict) or not node.get("checkpoint"):
        return False
    return _type_name(node) in ("Pretrained", "PretrainedInit")


# --- resuming ---------------------------------------------------------------------------------


def set_resume(cfg: Config, resume: str) -> None:
    """Let a run go on from a checkpoint, with the checkpoint's seed.

    MMEngine takes the seed of the checkpoint too, but only after it has seeded the data with the
    config's. The checkpoint holds all weights: those that the config starts from are not needed
    any more, which may be gone or out of reach by now.

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
    remove_pretrained(cfg)
    cfg.resume, cfg.load_from = True, str(resume)
    set_seed(cfg, checkpoint["meta"].get("seed"))
    print(f"Resuming from {resume}.", flush=True)


def set_seed(cfg: Config, seed: int | None) -> None:
    """Set the seed of the run unless it is None."""
    if seed is not None:
        cfg.randomness = dict(cfg.get("randomness") or {}, seed=seed)


def latest_checkpoint(work_dir: str) -> str | None:
    """The checkpoint a run in ``work_dir`` wrote last.

    That is the one named in the file ``last_checkpoint``. It is looked for in ``work_dir`` first,
    which may have been moved or copied since. Where a kill left that file empty, it is the newest
    in ``work_dir``.
    """
    folder = Path(work_dir)
    record = folder / "last_checkpoint"
    named = record.read_text().strip() if record.is_file() else ""
    for path in (folder / Path(named).name, Path(named)):
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
        if _type_name(evaluator) == "YTVISMetric":
            return evaluator
    raise ConfigError(
        f"{option} is for the tracks of videos: it needs a config whose test_evaluator is a "
        "YTVISMetric, and that of an image model is not"
    )


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


def _type_name(node: dict) -> str | None:
    """What a dict is a config of; its type may be a name or a class."""
    kind = node.get("type")
    return getattr(kind, "__name__", kind)


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
