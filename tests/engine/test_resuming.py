"""From which checkpoint a training goes on, and what it takes from it."""

import os

import pytest
import torch
from mmengine.config import Config
from run_config import run_config

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.config import pretrained_weights
from mmvis_plugin.engine.resuming import set_resume
from mmvis_plugin.engine.run_settings import check_pretrained

STATE = dict(meta=dict(seed=7), state_dict={}, optimizer={}, message_hub={})


@pytest.fixture
def cfg(tmp_path):
    cfg = run_config()
    cfg.work_dir = str(tmp_path)
    return cfg


def test_resume_needs_the_state_of_a_training_run(cfg, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(dict(state_dict={}), path)
    with pytest.raises(CheckpointError, match=f"load_from={path}"):
        set_resume(cfg, str(path))


def test_resume_takes_the_seed_of_the_checkpoint(tmp_path):
    path = tmp_path / "iter_5.pth"
    torch.save(STATE, path)
    randomness = dict(seed=0, deterministic=True)
    cfg = Config(dict(model={}, work_dir=str(tmp_path), randomness=randomness))
    set_resume(cfg, "auto")
    assert cfg.resume and cfg.load_from == str(path)
    assert cfg.randomness == dict(seed=7, deterministic=True)


def test_resume_does_without_the_weights_of_the_start(cfg, tmp_path):
    path = tmp_path / "elsewhere.pth"
    set_resume(cfg, "auto")  # nothing to resume: it starts with them
    assert len(pretrained_weights(cfg)) == 3
    torch.save(STATE, path)
    set_resume(cfg, str(path))
    assert pretrained_weights(cfg) == dict(load_from=str(path))
    check_pretrained(cfg)


@pytest.fixture
def two_kills(tmp_path):
    """One kill left ``last_checkpoint`` empty, a second one cut the newest checkpoint."""
    for number in (5, 7, 9):
        torch.save(STATE, tmp_path / f"iter_{number}.pth")
        os.utime(tmp_path / f"iter_{number}.pth", (1000 + number, 1000 + number))
    whole = (tmp_path / "iter_9.pth").read_bytes()
    (tmp_path / "iter_9.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "last_checkpoint").write_text("")
    return tmp_path


def test_resume_takes_the_newest_checkpoint_that_loads(cfg, two_kills, capsys):
    set_resume(cfg, "auto")
    assert cfg.load_from == f"{two_kills}/iter_7.pth"
    printed = capsys.readouterr().out
    assert "Passed over: The checkpoint" in printed and "iter_9.pth cannot be read" in printed
    assert "iter_5" not in printed and f"Resuming from {two_kills}/iter_7.pth" in printed


@pytest.mark.parametrize("contents", [b"", None])
def test_resume_passes_over_checkpoints_that_cannot_be_right(cfg, two_kills, contents):
    if contents is None:
        torch.save(
            dict(STATE, state_dict=dict(w=torch.tensor(torch.nan))), two_kills / "iter_7.pth"
        )
    else:
        (two_kills / "iter_7.pth").write_bytes(contents)
    set_resume(cfg, "auto")
    assert cfg.load_from == f"{two_kills}/iter_5.pth"


def test_a_checkpoint_that_is_named_is_the_one(cfg, two_kills):
    with pytest.raises(CheckpointError, match="iter_9.pth cannot be read"):
        set_resume(cfg, str(two_kills / "iter_9.pth"))


def test_a_run_does_not_start_anew_beside_damaged_checkpoints(cfg, two_kills):
    for number in (5, 7):
        (two_kills / f"iter_{number}.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint that can be resumed.*leave out --res"):
        set_resume(cfg, "auto")
