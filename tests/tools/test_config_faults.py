"""Config files with values of a wrong type or without what is needed: one line names it."""

import pytest

from mmvis_plugin import config as tools
from mmvis_plugin.config import ConfigError

BRIEF = "train_cfg = dict(max_iters=1, val_begin=100)\ntrain_dataloader.update(num_workers=0)\n"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("del train_dataloader['dataset']", "train_dataloader has no dataset: it needs dataset ="),
        ("train_dataloader['dataset'] = 5", "train_dataloader.dataset: 5 is not Dataset"),
        ("train_dataloader['dataset'] = dict()", "train_dataloader.dataset has no type: it needs"),
        ("train_dataloader['sampler'] = 5", "train_dataloader.sampler: 5 is not Sampler or"),
        ("train_dataloader['num_workers'] = 'a'", ".num_workers: 'a' is not a whole number"),
        ("train_dataloader = 5", "train_dataloader: 5 is not DataLoader or a dict"),
        ("train_dataloader = []", r"train_dataloader: \[\] is not DataLoader or a dict"),
        ("model = 5", "model: 5 is not Module or a dict"),
        ("model = dict(width=1)", "model has no type: it needs"),
        ("model = dict(type='Conv2d')", "model: Conv2d needs 'in_channels', 'out_channels'"),
        ("custom_hooks = [5]", "custom_hooks.0: 5 is not Hook or a dict"),
        ("default_hooks['checkpoint'] = []", r"default_hooks.checkpoint: \[\] is not Hook or"),
        ("model = dict(type='Toy<x> Model')", "model.type: there is no Toy<x> Model; did you mean"),
        ("load_from = ''", "a checkpoint has an empty name: set load_from to"),
        ("default_hooks = []", r"default_hooks: \[\] is not a dict of"),
        ("optim_wrapper = dict(optimizer=5)", "optim_wrapper.optimizer: 5 is not Optimizer"),
        ("env_cfg = 5", "env_cfg: 5 is not a dict"),
        ("load_from = 5", "load_from: 5 is not a text or None"),
        ("log_level = 'nope'", "log_level: 'nope' is not known"),
        ("train_dataloader = None", "train_dataloader, train_cfg, and optim_wrapper should be"),
    ],
)
def test_wrong_values_in_a_file_are_named(toy_config, train_here, tmp_path, extra, message):
    config = toy_config(f"{BRIEF}{extra}\n")
    with pytest.raises(SystemExit, match=rf"^error: ({config}: )?.*{message}"):
        train_here(config, tmp_path / "run")


def test_a_mistake_of_a_program_is_not_put_down_to_a_right_config(toy_config):
    cfg = tools.load_config(toy_config())
    with pytest.raises(AttributeError) as error, tools.naming_settings(cfg):
        cfg.model.type.nothing  # noqa: B018
    assert not isinstance(error.value, ConfigError)
