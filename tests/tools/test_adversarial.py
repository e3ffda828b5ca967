"""Training with a discriminator through tools/train.py: resuming, two processes, publishing."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from scripts import load_script
from toy_adversarial import ToySegmentor

from mmvis_plugin.checkpoint import load_checkpoint_safely
from mmvis_plugin.config import ConfigError
from mmvis_plugin.engine import iteration_seed, run_settings, seed_generators

ROOT = Path(__file__).resolve().parents[2]

ADVERSARIAL = """
custom_imports = dict(
    imports=["mmvis_plugin", "toy_task", "toy_adversarial"], allow_failed_imports=False
)
model = dict(type="ToySegmentor", discriminator=dict(channels=4, hidden_channels=(4, 6)))
optim_wrapper = dict(
    _delete_=True,
    constructor="AdversarialOptimWrapperConstructor",
    network=dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=1e-2),
        clip_grad=dict(max_norm=0.1),
        paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    ),
    discriminator=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=2e-3)),
)
param_scheduler = dict(
    _delete_=True,
    network=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=8)],
    discriminator=[dict(type="MultiStepLR", milestones=[6], by_epoch=False)],
)
model_wrapper_cfg = dict(type="AdversarialDistributedDataParallel", broadcast_buffers=False)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=5, max_keep_ckpts=-1))
log_processor = dict(window_size=1)
"""
TEN = "\ntrain_cfg = dict(max_iters=10, val_begin=1, val_interval=100)\n"


@pytest.fixture
def adversarial_config(toy_config):
    def write(extra=TEN):
        path = toy_config()
        path.write_text(path.read_text() + ADVERSARIAL + extra)
        return path

    return write


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.discriminator=None", "^error: .* ToySegmentor .* but model.discriminator is None"),
        ("optim_wrapper.optimizer.lr=1e-4", "^error: .* optim_wrapper.optimizer.lr: nothing reads"),
    ],
)
def test_optimizers_that_do_not_fit_are_told_in_one_line(
    adversarial_config, tool, tmp_path, option, message
):
    name = f"experiment_name={tmp_path}"
    with pytest.raises(SystemExit, match=message):
        tool(
            *("train", adversarial_config(), "--work-dir", tmp_path),
            *("--cfg-options", name, option),
        )


def log_of(work_dir):
    lines = next(Path(work_dir).glob("*/vis_data/scalars.json")).read_text().splitlines()
    return {entry["step"]: entry for entry in map(json.loads, lines) if "loss" in entry}


def test_resumed_run_repeats_the_whole_one(adversarial_config, train_here, tmp_path):
    """Weights, both optimizers and both schedules."""
    config = adversarial_config()
    train_here(config, tmp_path / "whole", "--seed", "3")
    train_here(config, tmp_path / "resumed", "--resume", tmp_path / "whole/iter_5.pth")
    expected, resumed = log_of(tmp_path / "whole"), log_of(tmp_path / "resumed")
    assert sorted(resumed) == [6, 7, 8, 9, 10]
    logged = {"loss", "loss_mask", "loss_separability", "loss_discriminator", "grad_norm"}
    rates = {"network.lr", "discriminator.lr"}
    assert logged | rates <= expected[1].keys()
    for step, entry in resumed.items():
        for name in logged | rates:
            assert entry[name] == expected[step][name], (step, name)
        # What the network minimises is without the discriminator's loss.
        total = entry["loss_mask"] + entry["loss_separability"]
        assert entry["loss"] == pytest.approx(total, abs=1e-4)
    ends = [
        load_checkpoint_safely(tmp_path / name / "iter_10.pth") for name in ("whole", "resumed")
    ]
    assert ends[0]["optimizer"].keys() == {"network", "discriminator"}
    assert ends[0]["optimizer"]["discriminator"]["state"][0]["step"] == 10
    assert ends[0]["param_schedulers"] == ends[1]["param_schedulers"]
    torch.testing.assert_close(ends[0]["state_dict"], ends[1]["state_dict"], rtol=0, atol=0)
    for name in ("network", "discriminator"):
        states = [end["optimizer"][name]["state"] for end in ends]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    start = load_checkpoint_safely(tmp_path / "whole/iter_5.pth")["state_dict"]
    assert not any(torch.equal(start[name], ends[0]["state_dict"][name]) for name in start)


def test_two_processes_average_the_gradients_of_both(
    adversarial_config, finish, tmp_path, monkeypatch
):
    """And the parameters of the network and of the discriminator stay the same in both."""
    recording = f"""
custom_hooks = [
    dict(type="IterationSeedHook"), dict(type="RecordBothHook", folder="{tmp_path}")
]
train_cfg = dict(max_iters=2, val_begin=100)
optim_wrapper["network"]["clip_grad"] = None
"""
    config = adversarial_config(recording)
    finish("tools/dist_train.sh", config, 2, "--seed", 5, "--work-dir", tmp_path / "run")
    cfg = Config.fromfile(config)
    model = ToySegmentor(discriminator=cfg.model.discriminator).train()
    names = {name for name, _ in model.named_parameters()}
    for iteration in range(2):
        paths = [tmp_path / f"iter{iteration}_rank{rank}.pth" for rank in range(2)]
        records = [torch.load(path, weights_only=False) for path in paths]
        halves = [own_gradients(model, record, iteration, r) for r, record in enumerate(records)]
        for name, value in records[0]["after"].items():
            assert torch.equal(value, records[1]["after"][name]), name
            assert not torch.equal(value, records[0]["before"][name]), name
        assert records[0]["gradients"].keys() == names
        for name, gradient in records[0]["gradients"].items():
            mean = (halves[0][name] + halves[1][name]) / 2
            torch.testing.assert_close(gradient, mean, rtol=1e-5, atol=1e-6)
        assert any(not torch.allclose(halves[0][n], halves[1][n], rtol=0.1) for n in names)


def test_two_processes_train_mssts(finish, shapes, tmp_path):
    """The shapes config as it is, with one clip a process."""
    config = tmp_path / "recorded.py"
    config.write_text(
        f"""
_base_ = "{ROOT}/configs/mssts/mssts_r18_shapes.py"
custom_imports = dict(
    imports=["mmvis_plugin", "toy_task", "toy_adversarial"], allow_failed_imports=False
)
custom_hooks = [
    dict(type="IterationSeedHook"), dict(type="RecordBothHook", folder="{tmp_path}")
]
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=2, val_begin=100)
"""
    )
    places = ["--data-root", shapes, "--work-dir", tmp_path / "run"]
    finish("tools/dist_train.sh", config, 2, "--no-pretrained", "--seed", 5, *places)
    records = [
        torch.load(tmp_path / f"iter1_rank{rank}.pth", weights_only=False) for rank in (0, 1)
    ]
    assert not torch.equal(*(record["batch"]["inputs"][0].float().mean() for record in records))
    moved = {True: 0, False: 0}
    for name, value in records[0]["after"].items():
        assert torch.equal(value, records[1]["after"][name]), name
        is_discriminators = name.startswith("discriminator.")
        moved[is_discriminators] += not torch.equal(value, records[0]["before"][name])
    assert min(moved.values()) > 5, moved


def own_gradients(model, record, iteration, rank):
    """Gradients of one process's batch, computed in this process alone, loss by loss."""
    model.load_state_dict(record["before"])
    model.zero_grad()
    seed_generators(iteration_seed(5, iteration, rank))
    data = model.data_preprocessor(record["batch"], training=True)
    losses = model(**data, mode="loss")
    of_discriminator = losses.pop("loss_discriminator")
    rest = [p for name, p in model.named_parameters() if not name.startswith("discriminator")]
    own = list(model.discriminator.parameters())
    gradients = torch.autograd.grad(sum(losses.values()), rest)
    gradients += torch.autograd.grad(of_discriminator, own)
    return dict(zip((name for name, _ in model.named_parameters()), gradients, strict=True))


def test_published_weights_have_no_discriminator(adversarial_config, train_here, tmp_path):
    config = adversarial_config(TEN.replace("10", "1"))
    train_here(config, tmp_path / "run")
    source = tmp_path / "run/iter_1.pth"
    publisher = load_script("tools/model_converters/publish_weights.py")
    published = tmp_path / "published.pth"
    publisher.publish(source, published, torch.float32, 10**6, {})
    trained = load_checkpoint_safely(source)["state_dict"]
    state = torch.load(published, weights_only=True)["state_dict"]
    assert any(name.startswith("discriminator.") for name in trained)
    assert list(state) == [name for name in trained if not name.startswith("discriminator.")]


# --- configs -----------------------------------------------------------------------------------


def test_amp_converts_each_optimizer(adversarial_config, monkeypatch):
    monkeypatch.setattr(run_settings, "get_device", lambda: "cuda")
    cfg = Config.fromfile(adversarial_config(), import_custom_modules=False)
    run_settings.use_amp(cfg)
    for name in ("network", "discriminator"):
        assert cfg.optim_wrapper[name].type == "AmpOptimWrapper"
        assert cfg.optim_wrapper[name].loss_scale == "dynamic"
    assert "type" not in cfg.optim_wrapper
    assert cfg.optim_wrapper.network.clip_grad == dict(max_norm=0.1)
    cfg.optim_wrapper.discriminator.type = "ApexOptimWrapper"
    with pytest.raises(ConfigError, match="optim_wrapper.discriminator.type is ApexOptimWrapper"):
        run_settings.use_amp(cfg)


def test_amp_converts_a_single_optimizer(monkeypatch):
    monkeypatch.setattr(run_settings, "get_device", lambda: "cuda")
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type="SGD"), loss_scale=512.0)))
    run_settings.use_amp(cfg)
    expected = dict(optimizer=dict(type="SGD"), type="AmpOptimWrapper", loss_scale=512.0)
    assert cfg.optim_wrapper == expected
