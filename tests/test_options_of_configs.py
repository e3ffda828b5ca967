"""Over all configs: what nothing reads is refused, a config's own settings are accepted."""

import random
from pathlib import Path

import pytest
from mmengine.config import Config

import mmvis_plugin  # noqa: F401 (registers the classes that configs name)
from mmvis_plugin.config_options import KEYS, ConfigError, set_options

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PATHS = [p for p in sorted(CONFIGS.rglob("*.py")) if "_base_" not in p.parts]
# What users of older versions or of the docs' own words try.
TYPICAL = (
    "max_iters",
    "data_root",
    "clip_length",
    "train_pipeline.0.frame_range",
    "data.samples_per_gpu",
    "head.num_classes",
    "lr",
    "model.learning_rate",
    "train_cfg.iterations",
    "train_dataloader.samples_per_gpu",
    "optim_wrapper.optimizer.learning_rate",
)


def settings(node, way=()):
    """Every setting below a dict or list, with the keys that lead to it."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if "." in str(key) or str(key).startswith("_"):
            continue
        yield (*way, str(key)), value
        if isinstance(value, dict | list):
            yield from settings(value, (*way, str(key)))


def misspelled(way, chance):
    """The same option with a letter of its last name doubled."""
    *parents, name = way
    place = chance.randrange(len(name))
    return ".".join([*parents, name[:place] + name[place] + name[place:]])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_only_settings_that_something_reads_are_accepted(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    chance = random.Random(path.stem)
    found = [item for item in settings(cfg.to_dict()) if item[0][0] in KEYS]
    named = [way for way, _ in found if not way[-1].isdigit() and len(way[-1]) > 3]
    top = [way for way in named if len(way) == 1]
    wrong = [misspelled(way, chance) for way in chance.sample(top, 2) + chance.sample(named, 4)]
    for option in [*chance.sample(TYPICAL, 4), *wrong]:
        # "options": of a part that the config leaves out.
        with pytest.raises(ConfigError, match="^options? "):
            set_options(cfg.copy(), {option: 1})
            pytest.fail(f"{path.stem} accepts {option}")

    # MMEngine replaces whole lists of numbers, not one of them.
    whole = [(way, v) for way, v in found if not way[-1].isdigit()]
    leaves = {".".join(way): v for way, v in whole if not isinstance(v, dict | list | tuple)}
    own = dict(chance.sample(sorted(leaves.items(), key=lambda item: item[0]), 8))
    changed = cfg.copy()
    set_options(changed, own)
    assert changed.to_dict() == cfg.to_dict()
