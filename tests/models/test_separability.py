"""The discriminator of foreground masks: its layers, its losses, and that it learns."""

import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from mmvis_plugin.apis import build_video_segmentor
from mmvis_plugin.config import remove_pretrained
from mmvis_plugin.models.mssts.separability import (
    ForegroundViews,
    SeparabilityDiscriminator,
    make_discriminator_optional,
)
from mmvis_plugin.models.video_segmentor import leave_out_training_parts

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/mssts/mssts_r18_shapes.py"


def make_views(size=(40, 56), channels=6, num_frames=3):
    """Views of random frames; sizes are halved and rounded up from scale to scale."""
    scales = [tuple(-(-side // stride) for side in size) for stride in (8, 16, 32)]
    features = [torch.randn(num_frames, channels, *s, requires_grad=True) for s in scales]
    predicted = torch.rand(num_frames, 1, *scales[0], requires_grad=True)
    true = (torch.rand(num_frames, 1, *scales[0]) > 0.5).float()
    return ForegroundViews(torch.randn(num_frames, 3, *size), features, predicted, true)


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return SeparabilityDiscriminator(channels=6, hidden_channels=(4, 8, 5, 7))


def test_layers_are_those_of_the_source():
    """260 channels in, 64-128-256-512-1 at the end, no bias but that of the normalisation."""
    model = MODELS.build(dict(type="mmdet.SeparabilityDiscriminator"))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    widths = [(c.in_channels, c.out_channels) for c in convs]
    assert widths[:2] == [(260, 256), (256, 256)]
    assert widths[2:] == [(256, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert all(c.kernel_size == (3, 3) and c.stride == (1, 1) and c.bias is None for c in convs)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert [(n.normalized_shape, n.eps) for n in norms] == [((w,), 1e-6) for w in (128, 256, 512)]


def slow_judgement(model, views, masks):
    """The discriminator from its weights, in the functions of the specification."""
    convs = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [(m.weight, m.bias) for m in model.modules() if isinstance(m, nn.LayerNorm)]
    pool = dict(kernel_size=3, stride=2, padding=1)
    frames = F.interpolate(views.frames, masks.shape[-2:], mode="bilinear", align_corners=False)
    x = torch.cat([frames, views.features[0], masks], 1)
    for conv, feature in zip(convs[:2], views.features[1:], strict=True):
        x = F.max_pool2d(F.conv2d(x, conv, padding=1), **pool) + feature
    x = F.conv2d(x, convs[2], padding=1)
    for conv, (weight, bias) in zip(convs[3:-1], norms, strict=True):
        x = F.conv2d(torch.where(x > 0, x, 0.2 * x), conv, padding=1)
        deviation = (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        x = (x - x.mean(1, keepdim=True)) / deviation
        x = x * weight[:, None, None] + bias[:, None, None]
    x = F.conv2d(torch.where(x > 0, x, 0.2 * x), convs[-1], padding=1)
    return x.sigmoid()


@pytest.mark.parametrize("size", [(64, 96), (40, 56), (24, 8)])
def test_losses_equal_their_slow_form(discriminator, size):
    for norm in (m for m in discriminator.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    views = make_views(size)
    true = slow_judgement(discriminator, views, views.true)
    predicted = slow_judgement(discriminator, views, views.predicted)
    assert true.shape == (3, 1, -(-size[0] // 32), -(-size[1] // 32))
    expected = -true.log().mean() - (1 - predicted).log().mean()
    losses = discriminator.discriminator_loss(views)
    torch.testing.assert_close(losses, dict(loss_discriminator=expected))
    losses = discriminator.generator_loss(views)
    torch.testing.assert_close(losses, dict(loss_separability=-1.5 * predicted.log().mean()))


def test_each_loss_reaches_its_own_parameters_only(discriminator):
    views = make_views()
    inputs = [*views.features, views.predicted]
    (loss,) = discriminator.generator_loss(views).values()
    loss.backward()
    assert all(x.grad is not None and x.grad.any() for x in inputs)
    assert all(p.grad is None for p in discriminator.parameters())
    for x in inputs:
        x.grad = None
    (loss,) = discriminator.discriminator_loss(views).values()
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in discriminator.parameters())
    assert all(x.grad is None for x in inputs)
    assert all(p.requires_grad for p in discriminator.parameters())


def test_losses_under_autocast(discriminator):
    views = make_views()
    expected = [discriminator.generator_loss(views), discriminator.discriminator_loss(views)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [discriminator.generator_loss(views), discriminator.discriminator_loss(views)]
    torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-3)


def disks(num_frames, generator):
    """Frames with a disk that is brighter than the noise around it, and its mask at stride 8."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    centers = torch.randint(12, 52, (num_frames, 2, 1, 1), generator=generator)
    radius = torch.randint(8, 20, (num_frames, 1, 1), generator=generator)
    masks = ((x - centers[:, 0]) ** 2 + (y - centers[:, 1]) ** 2 < radius**2).float()[:, None]
    frames = torch.randn(num_frames, 3, 64, 64, generator=generator) + 3 * masks
    pooled = [F.avg_pool2d(frames, stride) for stride in (8, 16, 32)]
    features = [torch.cat([p, p], 1) for p in pooled]
    return frames, features, (F.avg_pool2d(masks, 8) > 0.5).float()


def test_it_learns_to_tell_true_from_shuffled_masks():
    """Shuffled among the frames, so that masks alone tell nothing; on disks not seen before."""
    torch.manual_seed(0)
    model = SeparabilityDiscriminator(channels=6, hidden_channels=(8, 16, 16, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)

    def draw():
        frames, features, true = disks(16, generator)
        return ForegroundViews(frames, features, true.roll(1, 0), true)

    def accuracy():
        with torch.no_grad():
            views = draw()
            true = model(views.frames, views.features, views.true)
            shuffled = model(views.frames, views.features, views.predicted)
        right = [(true.mean((1, 2, 3)) > 0), (shuffled.mean((1, 2, 3)) < 0)]
        return torch.cat(right).float().mean()

    assert abs(accuracy() - 0.5) < 0.25
    losses = []
    for _ in range(120):
        (loss,) = model.discriminator_loss(draw()).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[0] > 1.2  # 2 log 2 where it can tell nothing
    assert sum(losses[-10:]) / 10 < 0.5
    assert accuracy() > 0.85

    # What it has learnt is worth something to the network: a mask moves towards the true one.
    views = draw()
    logits = torch.zeros_like(views.true, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    errors = []
    for _ in range(30):
        predicted = logits.sigmoid()
        errors.append(float((predicted - views.true).abs().mean()))
        (loss,) = model.generator_loss(views._replace(predicted=predicted)).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert errors[-1] < 0.8 * errors[0]


# --- checkpoints with and without it ------------------------------------------------------------


class Segmentor(nn.Module):
    def __init__(self, with_discriminator):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.discriminator = nn.Linear(2, 1) if with_discriminator else None
        make_discriminator_optional(self)


@pytest.fixture
def mmengine_log(caplog):
    init_default_scope("mmdet")
    logger = MMLogger.get_instance("separability", log_level="INFO")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("saved_with", [True, False])
@pytest.mark.parametrize("loaded_into", [True, False])
def test_checkpoints_load_without_a_warning(saved_with, loaded_into, tmp_path, mmengine_log):
    source, model = Segmentor(saved_with), Segmentor(loaded_into)
    own = {k: v.clone() for k, v in model.state_dict().items()}
    expected = {**own, **{k: v for k, v in source.state_dict().items() if k in own}}
    for prefix in ("", "inner."):
        fresh = Segmentor(loaded_into)
        fresh.load_state_dict(own)
        holder = nn.ModuleDict({"inner": fresh}) if prefix else fresh
        state = {prefix + name: value for name, value in source.state_dict().items()}
        given = list(state)
        holder.load_state_dict(state, strict=True)
        assert list(state) == given  # the caller's is left alone
        torch.testing.assert_close(dict(fresh.state_dict()), expected)
    torch.save(dict(state_dict=source.state_dict()), tmp_path / "saved.pth")
    load_checkpoint(model, str(tmp_path / "saved.pth"), logger=logging.getLogger("x"))
    torch.testing.assert_close(dict(model.state_dict()), expected)
    assert "unexpected" not in mmengine_log.text and "missing" not in mmengine_log.text


def test_parts_of_a_discriminator_are_missing_keys():
    model, state = Segmentor(True), Segmentor(True).state_dict()
    del state["discriminator.bias"]
    with pytest.raises(RuntimeError, match="discriminator.bias"):
        model.load_state_dict(state)


# --- the method's model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mssts():
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIG)
    remove_pretrained(cfg)
    return cfg


def test_prediction_does_not_use_it(mssts):
    assert mssts.model.discriminator
    torch.manual_seed(0)
    model = MODELS.build(mssts.model).eval()

    def fail(*args):
        raise AssertionError("a module of the discriminator was called")

    for module in model.discriminator.modules():
        module.register_forward_pre_hook(fail)
    meta = dict(ori_shape=(64, 96), img_shape=(64, 96), scale_factor=(1.0, 1.0))
    state = model.start_video(dict(video_id=0, ori_video_length=2))
    with torch.no_grad():
        frames = model.step(state, torch.randn(2, 3, 64, 96), [meta] * 2)
        more, _ = model.finish(state)
    assert len([*frames, *more]) == 2


def test_inference_builds_none(mssts, tmp_path):
    trained = MODELS.build(mssts.model)
    assert trained.discriminator is not None
    checkpoint = tmp_path / "trained.pth"
    meta = dict(dataset_meta=dict(classes=tuple("abcdef")))
    torch.save(dict(state_dict=trained.state_dict(), meta=meta), checkpoint)
    model = build_video_segmentor(mssts, checkpoint, device="cpu")
    assert model.discriminator is None
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    cfg = mssts.copy()
    leave_out_training_parts(cfg.model)
    assert MODELS.build(cfg.model).discriminator is None
