"""A run that stopped and was resumed equals the one that did not stop."""

import signal
import sys

import pytest

ITERATIONS = """
train_cfg = dict(max_iters=12, val_begin=1, val_interval=5)
default_hooks["checkpoint"] = dict(interval=5, max_keep_ckpts=-1)
"""
EPOCHS = """
train_cfg = dict(max_epochs=3)
"""


def test_killed_run_goes_on_as_if_it_had_not_been(toy_config, run_process, logged_losses, tmp_path):
    def train(work_dir, *options):
        command = [sys.executable, "tools/train.py", config, "--work-dir", work_dir]
        return run_process(*command, *options)

    config = toy_config(ITERATIONS)
    whole = train(tmp_path / "whole", "--seed", "3")
    assert whole.returncode == 0, whole.stderr
    expected = logged_losses(tmp_path / "whole")
    assert sorted(expected) == list(range(1, 13))
    assert len(set(expected.values())) == 12

    hooks = "[dict(type='IterationSeedHook'), dict(type='KillHook', iteration=8)]"
    toy_config(ITERATIONS + f"custom_hooks = {hooks}")
    killed = train(tmp_path / "killed", "--seed", "3")
    assert killed.returncode == -signal.SIGKILL
    assert max(logged_losses(tmp_path / "killed")) < 12

    # Without --seed: the run keeps the seed of its checkpoint.
    toy_config(ITERATIONS)
    resumed = train(tmp_path / "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert logged_losses(tmp_path / "killed") == expected


@pytest.mark.parametrize(
    ("schedule", "sampler", "length", "checkpoint"),
    [
        # This one is loaded again up to where it stopped: it cannot skip.
        ("schedule_shapes", "KeyFrameSampler", ITERATIONS, "iter_10.pth"),
        ("schedule_ytvis_12e", "KeyFrameSampler", EPOCHS, "epoch_2.pth"),
    ],
)
def test_resumed_run_repeats_the_whole_one(
    toy_config, train_here, logged_losses, tmp_path, schedule, sampler, length, checkpoint
):
    config = toy_config(length, schedule=schedule, sampler=sampler)
    train_here(config, tmp_path / "whole")
    train_here(config, tmp_path / "resumed", "--resume", tmp_path / "whole" / checkpoint)
    expected, losses = logged_losses(tmp_path / "whole"), logged_losses(tmp_path / "resumed")
    assert 0 < len(losses) < len(expected)
    assert losses == {step: expected[step] for step in losses}


def test_resume_without_a_checkpoint_starts_with_the_weights_of_the_config(
    toy_config, train_here, tmp_path
):
    config = toy_config("train_cfg = dict(max_iters=1)")
    train_here(config, tmp_path / "first")
    toy_config(f"train_cfg = dict(max_iters=1)\nload_from = '{tmp_path}/first/iter_1.pth'")
    train_here(config, tmp_path / "second", "--resume")
    log = next((tmp_path / "second").glob("*/*.log")).read_text()
    assert f"Load checkpoint from {tmp_path}/first/iter_1.pth" in log
