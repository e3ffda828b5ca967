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
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmvis_plugin.files import resource_root

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
    files = (resource_root() / "configs").glob("[!_]*/**/*.py")
    return {path.stem: path for path in files}


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
    nodes = dict(dicts_in(cfg.get(parts[0]), parts[0]))
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
    nodes = [node for part in sorted(KEYS & cfg.keys()) for node in dicts_in(cfg[part], part)]
    if found := re.search(r"(\w+) is not in the \S+ registry", message):
        places = (name for name, node in nodes if type_name(node) == found[1])
        return [f"{name}.type: there is no {found[1]}" for name in places]
    if found := re.search(r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", message):
        owner, key = found.groups()
        places = [(name, type_name(node) or owner) for name, node in nodes if key in node]
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
        for path, node in dicts_in(cfg.get(name), name):
            if node.get("data_root"):
                yield path, node


def _folder(path: str) -> str:
    return path.rstrip(os.sep) + os.sep


def _split_move(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        raise ConfigError(f"With several --data-root each is OLD=NEW, not {text!r}")
    return _folder(old), _folder(new)


# --- classes ----------------------------------------------------------------------------------


def class_counts(cfg: Config) -> dict[str, int]:
    """Numbers of the dataset's classes that the model's parts are built for, by dotted name."""
    return {
        f"{name}.{key}": node[key]
        for name, node in dicts_in(cfg.model, "model")
        for key in CLASS_COUNTS
        if isinstance(node.get(key), int) and not OTHER_CLASSES & {*name.split(".")}
    }


def require_class_names(cfg: Config, names: Sequence[str], source: str | os.PathLike) -> None:
    """Make sure that there is a name for each class that a model is built for.

    Args:
        cfg: Config.
        names: Names of the classes; empty if they are not known.
        source: The checkpoint that names them, for the message.

    Raises:
        ConfigError: The numbers differ.
    """
    wrong = [f"{name} is {n}" for name, n in class_counts(cfg).items() if n != len(names)]
    if names and wrong:
        raise ConfigError(
            f"{source} names {len(names)} classes ({', '.join(names[:3])}, ...), but "
            f"{' and '.join(wrong)}: correct the classes in its meta, or use the config that it "
            "was trained with"
        )


# --- weights ----------------------------------------------------------------------------------


def pretrained_weights(cfg: Config) -> dict[str, str]:
    """Weights the config starts from.

    Returns:
        dict: File or address by its place in the config: ``load_from`` and, anywhere in the model,
        ``init_cfg`` of type ``Pretrained``.
    """
    found = {
        name: node["checkpoint"] for name, node in dicts_in(cfg.model, "model") if _loads(node)
    }
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


def _loads(node: Any) -> bool:
    if not isinstance(node, dict) or not node.get("checkpoint"):
        return False
    return type_name(node) in ("Pretrained", "PretrainedInit")


# --- walking through configs ------------------------------------------------------------------


def dicts_in(node: Any, name: str) -> Iterator[tuple[str, dict]]:
    """Every dict in a nested config, with its dotted name."""
    if isinstance(node, dict):
        yield name, node
        for key, value in node.items():
            yield from dicts_in(value, f"{name}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from dicts_in(value, f"{name}.{index}")


def type_name(node: dict) -> str | None:
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
