"""``--cfg-options``: what may be set in a config, and what the command line is told otherwise.

A setting counts if something reads it: the Runner, our tools or MMEngine's hooks at the top; below
it the class that a ``type`` names. What a model keeps in ``test_cfg``, names of hooks and
multipliers are open: there a key passes unless it resembles a present one.
"""

import collections.abc
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import mmdet.registry
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
    set_random_seed,
)
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

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
} - {"cfg", "launcher"}

REGISTRIES = [value for value in vars(mmdet.registry).values() if isinstance(value, Registry)]

# The classes and functions that take a dict without a type, and what else is read of it.
LOADER = ((DataLoader,), {"num_batch_per_epoch"})
UNTYPED = {
    "train_dataloader": LOADER,
    "val_dataloader": LOADER,
    "test_dataloader": LOADER,
    "train_cfg": ((EpochBasedTrainLoop, IterBasedTrainLoop), {"by_epoch"}),
    "val_cfg": ((ValLoop,), set()),
    "test_cfg": ((TestLoop,), set()),
    "log_processor": ((LogProcessor,), set()),
    "visualizer": ((Visualizer,), set()),
    "randomness": ((set_random_seed,), set()),
    "optim_wrapper.clip_grad": (
        (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_),
        set(),
    ),
    "auto_scale_lr": ((), {"enable", "base_batch_size"}),
    "env_cfg": ((), {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"}),
    "env_cfg.mp_cfg": ((), {"mp_start_method", "opencv_num_threads"}),
    "custom_imports": ((), {"imports", "allow_failed_imports"}),
}
# What is read beside a class's own arguments.
BUILDERS = {"_delete_", "_scope_", "type", "init_cfg", "priority", "requires_grad"}
WRAPPERS = {"optimizer", "constructor", "paramwise_cfg", "clip_grad", "accumulative_counts"}

# Settings that go by another name here, or are an option of their own.
ELSEWHERE = {
    "data_root": "--data-root FOLDER",
    "launcher": "--launcher NAME",
    "train_pipeline": "train_dataloader.dataset.pipeline",
    "val_pipeline": "val_dataloader.dataset.pipeline",
    "test_pipeline": "test_dataloader.dataset.pipeline",
    "dataset_type": "train_dataloader.dataset.type",
    "optimizer": "optim_wrapper.optimizer",
    "lr_config": "param_scheduler",
    "checkpoint_config": "default_hooks.checkpoint",
    "log_config": "default_hooks.logger",
    "evaluation": "val_evaluator",
    "runner": "train_cfg",
    "total_epochs": "train_cfg.max_epochs",
    "samples_per_gpu": "train_dataloader.batch_size",
    "workers_per_gpu": "train_dataloader.num_workers",
    "data": "train_dataloader",
}


class ConfigError(ValueError):
    """A config, or a command line option about it, that cannot be used."""


def set_options(cfg: Config, options: dict[str, Any]) -> None:
    """Replace settings of a config.

    Args:
        cfg: Config, changed in place.
        options: Values by dotted key: ``{'train_dataloader.batch_size': 1}``.

    Raises:
        ConfigError: Nothing reads such a setting, its name is misspelled, the value is of a wrong
            type or names a class that does not exist, or it lies inside something that is no dict.
    """
    for option in options:
        _require_name(cfg, option)
    before = cfg.copy()
    try:
        cfg.merge_from_dict(_with_whole_lists(cfg, options))
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConfigError(f"options {', '.join(options)}: {in_one_line(error)}") from error
    for option, value in options.items():
        _require_setting(before, cfg, option, value)


def _with_whole_lists(cfg: Config, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a whole list for each that sets a value inside of it.

    Inside of lists MMEngine merges dicts only.
    """
    values, whole = dict(settings_in(cfg)), {}
    for option, value in options.items():
        place, _, index = option.rpartition(".")
        old = whole.get(place, values.get(place))
        while not isinstance(value, dict) and isinstance(old, list | tuple) and index.isdigit():
            if int(index) >= len(old):
                raise IndexError(f"{place} has {len(old)} entries, counted from 0")
            value = type(old)([*old[: int(index)], value, *old[int(index) + 1 :]])
            option = place
            place, _, index = option.rpartition(".")
            old = whole.get(place, values.get(place))
        whole[option] = value
    return whole


def _require_name(cfg: Config, option: str) -> None:
    """The first name is read by something, and none is missing."""
    key, *rest = option.split(".")
    if not all((key, *rest)):
        raise ConfigError(f"option {option}: a name is missing beside a dot")
    if key not in KEYS:
        raise ConfigError(f"option {option}: nothing reads {key}{instead(cfg, option)}")


def instead(cfg: Config, option: str) -> str:
    """Where the setting is that an option means which nothing reads: the end of a message."""
    first, *rest = option.lstrip("_").split(".")
    moved = ELSEWHERE.get(first)
    if first in ("data_root", "launcher"):
        return f"; set {moved}"
    names = [".".join([moved, *rest])] if moved else []
    key = (rest or [first])[-1]
    moved = ELSEWHERE.get(key)
    names += [moved] if moved and moved not in names else []
    present = [name for name, _ in settings_in(cfg) if name in names]
    present = present or [name for name, _ in settings_in(cfg) if name.endswith(f".{key}")][:3]
    if found := present or names:
        return f"; set {' or '.join(found)}"
    return close_to(first, {*KEYS, *cfg.keys()} & KEYS)


def settings_in(cfg: Config) -> Iterable[tuple[str, Any]]:
    """Every setting that something reads, with its dotted name."""

    def walk(node: Any, name: str) -> Iterable[tuple[str, Any]]:
        yield name, node
        if isinstance(node, dict):
            pairs = node.items()
        else:
            pairs = enumerate(node) if isinstance(node, list | tuple) else ()
        for key, value in pairs:
            yield from walk(value, f"{name}.{key}")

    for key in sorted(cfg.keys() & KEYS):
        yield from walk(cfg[key], key)


# --- one option ---------------------------------------------------------------------------------


def _require_setting(before: Config, after: Config, option: str, value: Any) -> None:
    """Every name on the way to a setting is one that something takes, and so is the value."""
    *way, last = option.split(".")
    old, new = before._cfg_dict, after._cfg_dict
    owner: Any = Runner
    for depth, key in enumerate([*way, last]):
        place = ".".join([*way, last][:depth])
        if isinstance(new, dict):
            present = isinstance(old, dict) and key in old
            owner = owners_of(place, new) if place else (Runner,)
            if place and not present:
                _require_key(option, place, key, new, old, owner)
        old = _child(old, key)
        new = _child(new, key)
    if last == "type":
        _require_type(option, before, value)
    else:
        _require_value(option, value, old, _annotation(owner, last))


def _child(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return node.get(key)
    if isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
        return node[int(key)]
    return None


def _require_key(option: str, place: str, key: str, new: dict, old: Any, owners: tuple) -> None:
    accepted = _accepted(place, new, owners)
    if accepted is None:
        if place == "optim_wrapper" and key not in (old or ()):  # a constructor of its own reads it
            raise ConfigError(
                f"option {option}: nothing reads it{close_to(key, map(str, old or ()))}"
            )
        if close := close_to(key, map(str, old or ()), cutoff=0.8):
            raise ConfigError(f"option {option}: {place} has no {key}{close}")
    elif key not in accepted:
        kind = f"{type_name(new)} takes no such argument" if "type" in new else "nothing reads it"
        raise ConfigError(f"option {option}: {kind}{close_to(key, accepted)}")


def owners_of(place: str, node: dict) -> tuple:
    """The classes and functions that take a dict as their arguments; none if they are unknown."""
    if "type" in node:
        return tuple(registered(node["type"]))
    return UNTYPED.get(place, ((), set()))[0]


def _accepted(place: str, node: dict, owners: tuple) -> set[str] | None:
    """The keys that something reads of a dict; None if that is not known."""
    if "type" not in node and place not in UNTYPED:
        return None
    known = [parameters(owner) for owner in owners]
    if ("type" in node and not owners) or None in known:
        return None
    names = {name for found in known for name in found}
    extra = set() if "type" in node else UNTYPED[place][1]
    if any(inspect.isclass(owner) and issubclass(owner, OptimWrapper) for owner in owners):
        extra = extra | WRAPPERS
    if place.startswith("param_scheduler"):
        extra = extra | {"convert_to_iter_based"}
    return names | extra | BUILDERS


def parameters(owner: Any) -> dict[str, inspect.Parameter] | None:
    """Arguments of a class or function, inherited ones where it hands ``**kwargs`` on.

    Returns:
        dict: Parameter by name; None if it takes any.
    """
    found: dict[str, inspect.Parameter] = {}
    for function in _initialisers(owner):
        try:
            signature = _signature(function)
        except (TypeError, ValueError):
            return None
        kinds = {p.kind for p in signature.parameters.values()}
        found = {**signature.parameters, **found}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return {name: p for name, p in found.items() if name != "self"}
    return None


def _signature(function: Callable) -> inspect.Signature:
    """The signature, its annotations as types where they can be found."""
    names = {**vars(collections.abc), **getattr(function, "__globals__", {})}
    try:
        return inspect.signature(function, globals=names, eval_str=True)
    except (AttributeError, NameError, SyntaxError, TypeError):  # of what only a checker reads
        return inspect.signature(function)


def _initialisers(owner: Any) -> list:
    if not inspect.isclass(owner):
        return [owner]
    return [vars(kind)["__init__"] for kind in owner.__mro__[:-1] if "__init__" in vars(kind)]


def registered(kind: Any) -> list:
    """What a ``type`` may mean: the classes of this name in MMDetection's registries."""
    if not isinstance(kind, str):
        return [kind] if callable(kind) else []
    found = (_in_registry(registry, kind) for registry in REGISTRIES)
    return list(dict.fromkeys(value for value in found if value is not None))


def _in_registry(registry: Registry, kind: str) -> Any:
    name = kind.rsplit(".", 1)[-1]
    return next((r.module_dict[name] for r in _lineage(registry) if name in r.module_dict), None)


def _lineage(registry: Registry | None) -> Iterable[Registry]:
    while registry is not None:
        registry.import_from_location()
        yield registry
        registry = registry.parent


def type_name(node: dict) -> str | None:
    """What a dict is a config of; its type may be a name or a class."""
    kind = node.get("type")
    return getattr(kind, "__name__", kind)


def similar_types(kind: str, of: Any = None) -> str:
    """The names that a misspelled type may mean, at best of the kind of another."""
    registries = [r for r in REGISTRIES if of is None or _in_registry(r, of) is not None]
    return close_to(kind, {name for r in registries for x in _lineage(r) for name in x.module_dict})


def _require_type(option: str, before: Config, value: Any) -> None:
    old = dict(settings_in(before)).get(option)
    if isinstance(old, str) and registered(old) and not registered(value):
        close = similar_types(value, old) if isinstance(value, str) else ""
        raise ConfigError(f"option {option}: there is no {value}{close}")


# --- values -------------------------------------------------------------------------------------


def _annotation(owners: Any, name: str) -> Any:
    found = [parameters(owner) or {} for owner in (owners if isinstance(owners, tuple) else ())]
    kinds = {p[name].annotation for p in found if name in p}
    return kinds.pop() if len(kinds) == 1 else inspect.Parameter.empty


def _require_value(option: str, value: Any, old: Any, annotation: Any) -> None:
    """The value is of the kind that its class asks for, or else of that which it replaces."""
    trusted = annotation is not inspect.Parameter.empty and (old is None or fits(old, annotation))
    if trusted and not fits(value, annotation):
        raise ConfigError(f"option {option}: {value!r} is not {in_words(annotation)}")
    number = isinstance(old, int | float) and isinstance(value, str | dict)
    several = isinstance(value, list | tuple) and all(isinstance(v, dict) for v in value)
    settings = isinstance(old, dict) and not (isinstance(value, dict | None) or several)
    if number or settings:
        kind = "settings, one by one" if settings else f"a number, such as {old}"
        raise ConfigError(f"option {option}: {value!r} is not {kind}")


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value may be what an annotation says; true where that is not known."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return value is None
    if _is_choice(annotation):
        return any(fits(value, kind) for kind in inner)
    if origin is typing.Literal:
        return value in inner
    kind = origin or annotation
    if not inspect.isclass(kind):
        return True
    if kind is float:
        return isinstance(value, int | float)
    if kind is bool:
        return value in (0, 1)
    if kind in (int, str):
        return isinstance(value, kind)
    if issubclass(kind, str):
        return isinstance(value, kind)
    if issubclass(kind, Mapping):
        return isinstance(value, kind) and _all_fit(value.values(), inner[1:])
    if issubclass(kind, Iterable) and kind.__module__ in ("builtins", "collections.abc"):
        several = isinstance(value, Iterable) and not isinstance(value, str)
        of_any_number = len(inner) == 1 or inner[1:] == (...,)
        return several and (not of_any_number or _all_fit(value, inner[:1]))
    return isinstance(value, kind | dict | str) or callable(value)


def _all_fit(values: Iterable, annotation: tuple) -> bool:
    """Whether each value is of the kind that is given, if one is; None stands for none."""
    return all(value is None or fits(value, kind) for kind in annotation for value in values)


def misfits(node: Mapping, owners: tuple) -> Iterable[tuple[str, Any, Any]]:
    """The values in a dict that are not what its class asks for.

    Args:
        node: Arguments of a class.
        owners: The classes that may take them, see :func:`owners_of`.

    Yields:
        tuple: Key, value, and the annotation that it does not fit. Of a list or dict of which one
        value does not fit, that value, under a dotted key.
    """
    for key, value in node.items():
        annotation = _annotation(owners, key)
        if annotation is not inspect.Parameter.empty and not fits(value, annotation):
            yield from list(_wrong_parts(key, value, annotation)) or [(key, value, annotation)]


def _wrong_parts(key: str, value: Any, annotation: Any) -> Iterable[tuple[str, Any, Any]]:
    for kind in typing.get_args(annotation) if _is_choice(annotation) else (annotation,):
        origin = typing.get_origin(kind)
        if origin in (dict, list) and isinstance(value, origin):
            wanted = typing.get_args(kind)[-1]
            for name, part in value.items() if origin is dict else enumerate(value):
                if part is not None and not fits(part, wanted):
                    yield f"{key}.{name}", part, wanted


def _is_choice(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def in_words(annotation: Any) -> str:
    """What an annotation asks for."""
    is_choice = _is_choice(annotation) or typing.get_origin(annotation) is typing.Literal
    kinds = typing.get_args(annotation) if is_choice else (annotation,)
    return " or ".join(map(_word, kinds))


def _word(kind: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}
    words |= {dict: "a dict", list: "a list", tuple: "a tuple", types.NoneType: "None"}
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)[-1:]
    word = words.get(origin) or str(getattr(origin, "__name__", origin))
    return f"{word} of {in_words(*inner)}" if inner and origin in (dict, list) else word


# --- words --------------------------------------------------------------------------------------


def close_to(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The names that a misspelled one may mean: the end of a message."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
    return f"; did you mean {', '.join(close)}?" if close else ""


def in_one_line(error: Exception) -> str:
    """The message of an error on one line, cut where it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:296]} ..."
