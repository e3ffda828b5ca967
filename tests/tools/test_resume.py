"""A run that stopped and was resumed equals the one that did not stop."""

import os
import signal
import sys
import time

import pytest
import torch

from mmvis_plugin.checkpoint import load_checkpoint_safely

ITERATIONS = """
train_cfg = dict(max_iters=12, val_begin=1, val_interval=5)
default_hooks["checkpoint"] = dict(interval=5, max_keep_ckpts=-1)
"""
EPOCHS = """
train_cfg = dict(max_epochs=3)
"""


@pytest.mark.parametrize(
    ("schedule", "sampler", "length", "checkpoint"),
    [
        ("schedule_shapes", "InfiniteKeyFrameSampler", ITERATIONS, "iter_5.pth"),
        # This sampler cannot skip: the data are loaded again up to where the run stopped.
        ("schedule_shapes", "KeyFrameSampler", ITERATIONS, "iter_10.pth"),
        ("schedule_ytvis_12e", "KeyFrameSampler", EPOCHS, "epoch_2.pth"),
    ],
)
def test_resumed_run_repeats_the_whole_one(
    toy_config, train_here, logged_losses, tmp_path, schedule, sampler, length, checkpoint
):
    config = toy_config(length, schedule=schedule, sampler=sampler)
    train_here(config, tmp_path / "whole", "--seed", "3")
    # Without --seed: a run keeps the seed of its checkpoint.
    train_here(config, tmp_path / "resumed", "--resume", tmp_path / "whole" / checkpoint)
    expected, losses = logged_losses(tmp_path / "whole"), logged_losses(tmp_path / "resumed")
    assert len({entry["loss"] for entry in expected.values()}) == len(expected)
    assert 0 < len(losses) < len(expected)
    assert losses == {step: expected[step] for step in losses}
    last = (tmp_path / "resumed/last_checkpoint").read_text()
    saved = load_checkpoint_safely(last)
    assert saved["message_hub"]["runtime_info"]["threads"] == torch.get_num_threads()


def test_resume_without_a_checkpoint_starts_with_the_weights_of_the_config(
    toy_config, train_here, tmp_path
):
    config = toy_config("train_cfg = dict(max_iters=1)")
    train_here(config, tmp_path / "first")
    toy_config(f"train_cfg = dict(max_iters=1)\nload_from = '{tmp_path}/first/iter_1.pth'")
    train_here(config, tmp_path / "second", "--resume")
    log = next((tmp_path / "second").glob("*/*.log")).read_text()
    assert f"Loaded 4 of 4 weights from {tmp_path}/first/iter_1.pth" in log


def test_killed_maskprop_run_goes_on_as_if_it_had_not_been(
    start, finish, shapes, logged_losses, tmp_path
):
    """The shapes config as it is: augmentation, frame and RoI sampling, two workers."""

    def command(work_dir, *options):
        config = "configs/maskprop/maskprop_r18_shapes.py"
        places = ["--data-root", shapes, "--work-dir", work_dir]
        short = [
            "train_cfg.max_iters=6",
            "train_cfg.val_begin=100",
            "default_hooks.checkpoint.interval=2",
            "default_hooks.logger.interval=1",
            "log_processor.window_size=1",
        ]
        train = [sys.executable, "tools/train.py", config, "--no-pretrained", *places, *options]
        return [*train, "--cfg-options", *short]

    finish(*command(tmp_path / "whole"))
    expected = logged_losses(tmp_path / "whole")
    assert sorted(expected) == [1, 2, 3, 4, 5, 6]

    killed = start(*command(tmp_path / "killed"))
    deadline = time.monotonic() + 300
    while max(logged_losses(tmp_path / "killed"), default=0) < 3:
        assert killed.poll() is None and time.monotonic() < deadline, killed.log.read_text()[-5000:]
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed/iter_6.pth").exists()

    finish(*command(tmp_path / "killed", "--resume"))
    assert logged_losses(tmp_path / "killed") == expected
