"""Which settings of a config an error is about that came from building something from it."""

import re
import reprlib
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.runner import Runner

from mmvis_plugin.config_options import (
    KEYS,
    close_to,
    in_one_line,
    in_words,
    misfits,
    owners_of,
    parameters,
    registered,
    settings_in,
    similar_types,
    type_name,
)


def wrong_settings(cfg: Config, error: Exception) -> list[str]:
    """The settings that an error speaks of or, if it names none, those of a wrong type.

    The errors of Python and MMEngine name a setting or a class, but not its place in the config.

    Args:
        cfg: Config from which something was built.
        error: What that raised.

    Returns:
        list[str]: A problem each, which begins with a dotted name; none if the mistake seems to be
        in a program.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    nodes = [(name, node) for name, node in settings_in(cfg) if isinstance(node, dict)]
    for problems in (_unknown_types, _unknown_arguments, _missing_arguments, _without_type):
        if found := list(problems(cfg, nodes, text)):
            return found
    reason = f" ({type(error).__name__}: {in_one_line(error)})"
    found = [*_missing_data(nodes), *_wrong_types(cfg, nodes), *_unknown_names(cfg, error)]
    return [f"{problem}{reason}" for problem in found]


def _unknown_types(cfg: Config, nodes: list, text: str) -> Iterator[str]:
    known = f" under the default_scope {cfg.get('default_scope')!r}"
    for name, node in nodes:
        kind = type_name(node)
        if isinstance(kind, str) and text.startswith(f"{kind} is not in the "):
            where = known if registered(kind) else similar_types(kind)
            yield f"{name}.type: there is no {kind:.100}{where}"


def _unknown_arguments(cfg: Config, nodes: list, text: str) -> Iterator[str]:
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected .*'(\w+)'", text)
    if not found:
        return
    owner, key = found.groups()
    places = [(name, type_name(node) or owner) for name, node in nodes if key in node]
    # A class may hand the argument on to the one it inherits from, which the error names.
    for name, kind in [place for place in places if place[1] == owner] or places:
        known = {name for owner in registered(kind) for name in parameters(owner) or ()}
        yield f"{name}.{key}: {kind} takes no such argument{close_to(key, known)}"


def _missing_arguments(cfg: Config, nodes: list, text: str) -> Iterator[str]:
    if found := re.search(r"(\w+)\.__init__\(\) missing \d+ required .* arguments?: (.*)", text):
        for name, node in nodes:
            if type_name(node) == found[1]:
                yield f"{name}: {found[1]} needs {found[2]}"


def _without_type(cfg: Config, nodes: list, text: str) -> Iterator[str]:
    if 'must contain the key "type"' in text:
        for name, node in nodes:
            if "type" not in node and f"but got {node}\n" in text:
                yield f"{name} has no type: it needs dict(type=...)"


def _wrong_types(cfg: Config, nodes: list) -> Iterator[str]:
    top = {key: cfg[key] for key in sorted(KEYS & cfg.keys())}
    for key, value, kind in misfits(top, (Runner,)):
        yield f"{key}: {reprlib.repr(value)} is not {in_words(kind)}"
    for name, node in nodes:
        for key, value, kind in misfits(node, owners_of(name, node)):
            if key != "meta_keys":  # which MMDetection itself gives as a tuple
                yield f"{name}.{key}: {reprlib.repr(value)} is not {in_words(kind)}"


def _missing_data(nodes: list) -> Iterator[str]:
    for name, node in nodes:
        if name.endswith("_dataloader") and not node.get("dataset"):
            yield f"{name} has no dataset: it needs dataset = dict(type=...)"


def _unknown_names(cfg: Config, error: Exception) -> Iterator[str]:
    """Settings of the Runner with the very value that a look-up did not find."""
    for name in sorted(KEYS & cfg.keys()):
        if (
            isinstance(error, KeyError)
            and isinstance(cfg[name], str)
            and error.args == (cfg[name],)
        ):
            yield f"{name}: {cfg[name]!r} is not known"
