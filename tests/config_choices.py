"""Which configs to run so that every choice that any of them makes is run at least once."""

import json
import re


def choices(cfg):
    """What a config chooses: values in its model and its training data, numbers aside.

    Which kinds of parts, switches, shapes of kernels and so on there are decides which code runs;
    a number of layers, iterations or classes does not. Starting weights are not looked at.
    """
    found = {("optimizer", cfg.optim_wrapper.get("type", "OptimWrapper"))}
    for part in (cfg.model, cfg.train_dataloader.dataset):
        found.update(_leaves(part.to_dict()))
    return found


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("init_cfg", "data_root", "data_prefix", "ann_file", "benchmark"):
                yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from _leaves(item, (*path, item.get("type") if isinstance(item, dict) else ""))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield path, json.dumps(value, default=str)


def cover(configs):
    """A small, quick set of configs that makes every choice: the most new ones for the time first.

    Args:
        configs (dict[Path, Config]): All configs by their files.

    Returns:
        list[Path]: Their files, sorted.
    """
    made = {path: choices(cfg) for path, cfg in configs.items()}
    missing, chosen = set().union(*made.values()), []
    while missing:
        best = max(configs, key=lambda path: len(made[path] & missing) / effort(path))
        chosen.append(best)
        missing -= made[best]
    return sorted(chosen)


def effort(path):
    """How long a config takes, roughly: the depth of its backbone; small ones are for shapes."""
    depth = re.search(r"_[rx](\d+)", path.stem)
    return int(depth[1] if depth else 200) * (1 if path.stem.endswith("_shapes") else 10)
