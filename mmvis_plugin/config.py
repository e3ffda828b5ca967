"""Configs: found by path or name, read, and changed as the command line says."""

import ast
import linecache
import os
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmvis_plugin.config_faults import wrong_settings
from mmvis_plugin.config_options import (
    KEYS,
    ConfigError,
    close_to,
    in_one_line,
    instead,
    set_options,
    type_name,
)
from mmvis_plugin.files import naming_place, resource_root

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
EVALUATORS = ("val_evaluator", "test_evaluator")

CLASS_COUNTS = ("num_classes", "num_things_classes")  # what heads call the number of classes
# Parts of a model whose classes, where they have any, are not those of the dataset.
OTHER_CLASSES = {"backbone", "reid", "rpn_head", "semantic_head"}


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
    if not cfg.get("model"):
        raise ConfigError(f"{path} has no model: a config needs model = dict(type=...)")
    set_options(cfg, options or {})
    with naming_settings(cfg):
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
    if moved := _moved(path, shipped):
        return moved
    if path.name == str(config) and name in shipped:
        return shipped[name]
    raise ConfigNotFoundError(
        f"{config}: no such config file, and none of the {len(shipped)} configs that come with "
        f"the package has this name{close_to(name, shipped)}"
    )


def _moved(path: Path, shipped: dict[str, Path]) -> Path | None:
    """Where a config is now that was at a path before the ablations had a folder of their own."""
    new = shipped.get(path.stem)
    if path.is_file() or not new or new.parent.name != "ablations":
        return None
    if path.absolute().parent.name != new.parents[1].name or not path.parent.name:
        return None
    warnings.warn(f"{path} has moved to {new}", FutureWarning, stacklevel=4)
    return new


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    files = (resource_root() / "configs").glob("[!_]*/**/*.py")
    return {path.stem: path for path in files}


def _read(path: str | os.PathLike) -> Config:
    file = find_config(path)
    if file.suffix in (".pth", ".pt"):
        raise ConfigError(f"{path} is a checkpoint, not a config: the order is CONFIG CHECKPOINT")
    if file.suffix != ".py":
        raise ConfigError(
            f"{path} is not a Python file. A config is a .py file; YAML is not read, since reading "
            "it can run code that does not show"
        )
    try:
        with naming_place(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
            cfg = Config.fromfile(_with_moved_bases(file, Path(folder)))
    except SyntaxError as error:
        if error.lineno is None:  # as for a zero byte
            raise ConfigError(f"{path} cannot be read as a config: {error.msg}") from error
        source = linecache.getline(str(file), error.lineno)
        own = source.strip() == (error.text or source).strip()
        line = f"line {error.lineno}" if own else f"line {error.lineno} of one of its bases"
        raise ConfigError(f"{path} cannot be read as a config: {line}: {error.msg}") from error
    except Exception as error:  # a config is a program: it can fail in any way
        raise ConfigError(f"{path} cannot be read as a config: {_mistake(error)}") from error
    settings = cfg._cfg_dict
    _warn_of_idle_helpers(file, cfg)
    kept = {key: value for key, value in settings.items() if not key.startswith("_")}
    return Config(kept, cfg_text=cfg.text, filename=str(file))


def _bases(file: Path) -> list[str]:
    """What a config inherits from, as it is written there."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
            bases = ast.literal_eval(node.value)
            return [bases] if isinstance(bases, str) else list(bases)
    return []


def _with_moved_bases(file: Path, folder: Path) -> Path:
    """A config, or a copy in ``folder`` that finds those of its bases that have moved.

    MMEngine looks bases up by their paths alone.
    """
    if not file.is_file():
        return file  # MMEngine names it
    found = {}
    for base in _bases(file):
        if "::" not in base:
            path = file.parent / base
            found[base] = _with_moved_bases(_moved(path, shipped_configs()) or path, folder)
    if all(found[base] == file.parent / base for base in found):
        return file
    text = file.read_text(encoding="utf-8")
    for base, path in found.items():
        text = text.replace(f'"{base}"', repr(str(path))).replace(f"'{base}'", repr(str(path)))
    text = re.sub(r"\{\{\s*fileDirname\s*\}\}", str(file.parent), text)
    copy = folder / file.name
    copy.write_text(text, encoding="utf-8")
    return copy


def _warn_of_idle_helpers(file: Path, cfg: Config) -> None:
    """Warn where a config sets again what only helped to write its base: that does nothing."""
    chain = list(_chain(file))
    used: set[str] = set()
    for index, (path, tree) in enumerate(chain):
        own = _assigned(tree)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_read(n)}
        used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        of_bases = {name.lstrip("_") for _, base in chain[index + 1 :] for name in _assigned(base)}
        for name in sorted(own - KEYS - names - used):
            if name.lstrip("_") in of_bases:
                warnings.warn(
                    f"{path}: {name} does nothing here: its base used it only to write its own "
                    f"settings{instead(cfg, name)}",
                    stacklevel=4,
                )


def _chain(file: Path) -> Iterator[tuple[Path, ast.Module]]:
    """A config and all that it inherits from in files, the heirs first."""
    if not file.is_file():
        return
    yield file, ast.parse(file.read_text(encoding="utf-8"))
    for base in _bases(file):
        if "::" not in base:
            yield from _chain(file.parent / base)


def _assigned(tree: ast.Module) -> set[str]:
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)} - {"_base_"}


def _is_read(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _mistake(error: Exception) -> str:
    """What went wrong in a config, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    # The config, or the one of its bases that fails, runs as a module.
    where = next((f"{f.filename}, line {f.lineno}: " for f in frames if f.name == "<module>"), "")
    cause = error if isinstance(error, OSError) else error.__cause__ or error
    return f"{where}{type(cause).__name__}: {in_one_line(cause)}"


# --- building ---------------------------------------------------------------------------------

# What a program raises where it is given the wrong arguments.
PROGRAM_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError)


@contextmanager
def naming_settings(
    cfg: Config,
    options: dict[str, Any] | None = None,
    errors: tuple[type[Exception], ...] = PROGRAM_ERRORS,
) -> Iterator[None]:
    """Within this context, a setting that fits no class is a :class:`ConfigError`.

    Args:
        cfg: Config from which something is built, see :func:`wrong_settings`.
        options: ``--cfg-options``. Any error that a program makes of its arguments is put down to
            them: without them, it is shown whole.
        errors: Those errors; others pass.
    """
    try:
        yield
    except ConfigError:
        raise
    except errors as error:
        place = f"{cfg.filename}: " if cfg.filename else ""
        problems = [f"{place}{problem}" for problem in wrong_settings(cfg, error)]
        if not problems and options:
            given = " ".join(f"{name}={value}" for name, value in options.items())
            where = traceback.extract_tb(error.__traceback__)[-1]
            problems = [
                f"with --cfg-options {given}: {type(error).__name__}: {in_one_line(error)} "
                f"({where.filename}, line {where.lineno}); without --cfg-options it is shown whole"
            ]
        if not problems:
            raise  # not the config's mistake
        raise ConfigError("; ".join(problems)) from error


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
            f"{source} names {len(names)} class{'es' * (len(names) > 1)}, but "
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
