"""The propagation head against the paper's equations in their plain order, and its loss."""

import copy

import numpy as np
import pytest
import torch
from mmcv.ops import deform_conv2d

from mmvis_plugin.models.layers import pairwise_soft_iou, soft_iou
from mmvis_plugin.models.maskprop import FlowPropagation, PropagationHead
from mmvis_plugin.models.maskprop.propagation import COMPETITIONS, propagation_loss


def make_head(channels: int = 8, **kwargs) -> PropagationHead:
    torch.manual_seed(0)
    settings = dict(in_channels=6, stride=4, norm_cfg=dict(type="GN", num_groups=2)) | kwargs
    return PropagationHead(channels=channels, **settings)


def randomise(head: PropagationHead) -> None:
    """Draw every parameter, those that start at zero included; offsets of about two cells."""
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(head.offset.bias, std=2)


def slow_masks(head, key, frames, masks, clip_inds):
    """Section by section as the slides have it, one instance and one frame at a time."""
    z = masks.new_zeros(len(masks), frames.shape[1], *masks.shape[-2:])
    attention = torch.zeros_like(z)
    for i, clip in enumerate(clip_inds.tolist()):
        f_t = key[clip]
        f_i = masks[i] * f_t
        for t, f_other in enumerate(frames[clip]):
            offset = head.offset(head.motion((f_t - f_other)[None]))
            g = deform_conv2d(f_i[None], offset, head.deform.weight, 1, 1)
            phi = g + f_other
            seen = torch.sigmoid(head.attention(f_other[None]))[0, 0]
            attention[i, t] = seen
            if head.competition == "sigmoid":
                phi = seen * phi
            z[i, t] = head.predict(phi)[0, 0]
    if head.competition == "sigmoid":
        return z.sigmoid()
    shares = torch.zeros_like(z)
    for clip in clip_inds.unique():
        own = clip_inds == clip
        none = torch.zeros_like(z[:1]) if head.competition == "softmax_or_none" else z[:0]
        shares[own] = torch.cat([z[own], none]).softmax(0)[: int(own.sum())]
    return attention * shares


@pytest.mark.parametrize("competition", COMPETITIONS)
def test_forward_equals_the_plain_order_of_steps(competition):
    head = make_head(competition=competition)
    randomise(head)
    key_inds = [1, 0, 2]
    frames = torch.randn(3, 4, 8, 9, 13)
    key = torch.stack([clip[k] for clip, k in zip(frames, key_inds, strict=True)])
    masks = torch.rand(5, 9, 13)
    clip_inds = torch.tensor([0, 0, 1, 1, 1])  # the third clip has no instance
    fast = head(key, frames, masks, clip_inds).sigmoid()
    slow = slow_masks(head, key, frames, masks, clip_inds)
    assert torch.allclose(fast, slow, atol=1e-4)


def test_positions_are_not_rounded_under_bfloat16_autocast():
    """An instance at the right edge of a wide frame, moved by a quarter of a cell."""
    head = make_head()
    torch.nn.init.constant_(head.offset.bias, 0.25)
    frames = torch.randn(1, 1, 8, 6, 150)
    masks = torch.zeros(1, 6, 150)
    masks[:, :, 140:] = torch.linspace(0, 1, 10)
    maps = torch.ones(1, 9, 6, 150)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        offsets = head.motion_offsets(frames[:, 0], frames)
        moved = head._sample(maps, offsets, masks[None])
    assert offsets.dtype == torch.bfloat16
    exact = head._sample(maps, offsets.float(), masks[None])
    torch.testing.assert_close(moved, exact, rtol=0, atol=1e-6)


def test_without_instances_nothing_is_computed(monkeypatch):
    head = make_head()
    monkeypatch.setattr(head, "motion_offsets", None)
    frames = torch.randn(3, 8, 6, 7)
    assert head.propagate(frames[0], frames, torch.zeros(0, 6, 7)).shape == (0, 3, 6, 7)


@pytest.mark.parametrize("competition", ["softmax_or_none", "sigmoid"])
def test_gradients_equal_the_plain_order_and_reach_the_offsets(competition):
    head = make_head(competition=competition).double()
    randomise(head)
    frames = torch.randn(1, 2, 8, 6, 7, dtype=torch.double)
    masks = torch.rand(2, 6, 7, dtype=torch.double, requires_grad=True)
    clip_inds = torch.zeros(2, dtype=torch.long)

    def gradients(masks_):
        wanted = [*head.offset.parameters(), *head.deform.parameters(), masks]
        wanted += [*head.motion.parameters(), *head.predict.parameters()]
        return torch.autograd.grad((masks_**2).sum(), wanted)

    fast = gradients(head(frames[:, 0], frames, masks, clip_inds).sigmoid())
    slow = gradients(slow_masks(head, frames[:, 0], frames, masks, clip_inds))
    for a, b in zip(fast, slow, strict=True):
        assert a.abs().max() > 0
        assert torch.allclose(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


def test_propagated_features_are_what_the_logits_are_made_of():
    head = make_head(competition="sigmoid")
    randomise(head)
    frames = torch.randn(3, 8, 6, 7)
    masks = torch.rand(2, 6, 7)
    g = head.propagated_features(frames[1], frames, masks)
    attention = head.attention(frames).sigmoid()
    logits = head.predict((attention * (g + frames)).flatten(0, 1))[:, 0].unflatten(0, (2, 3))
    assert torch.allclose(head.propagate(frames[1], frames, masks), logits.sigmoid(), atol=1e-5)


def test_offsets_start_at_zero_and_learn():
    head = make_head()
    head.init_weights()
    frames = torch.randn(1, 3, 8, 6, 7)
    assert not head.motion_offsets(frames[:, 0], frames).any()
    targets = (torch.rand(1, 3, 24, 28) > 0.5).float()
    logits = head(frames[:, 0], frames, torch.rand(2, 6, 7), torch.zeros(2, dtype=torch.long))
    head.loss(logits, targets.expand(2, -1, -1, -1))["loss_prop"].backward()
    assert head.offset.weight.grad.abs().max() > 0
    assert all(p.grad is not None for n, p in head.named_parameters() if "reduce" not in n)


@pytest.mark.parametrize("competition", ["softmax", "softmax_or_none"])
def test_attention_zeroes_pixels_that_belong_to_no_object(competition):
    head = make_head(competition=competition)
    randomise(head)
    torch.nn.init.zeros_(head.attention.weight)
    torch.nn.init.constant_(head.attention.bias, -50)
    frames = torch.randn(2, 8, 6, 7)
    assert head.propagate(frames[0], frames, torch.rand(2, 6, 7)).max() < 1e-12


def test_instances_share_what_the_attention_leaves():
    head = make_head()
    randomise(head)
    frames = torch.randn(3, 8, 6, 7)
    attention = head.attention(frames).sigmoid()[:, 0]
    masks = torch.rand(3, 6, 7)
    assert torch.allclose(head.propagate(frames[0], frames, masks).sum(0), attention, atol=1e-5)
    assert torch.allclose(head.propagate(frames[0], frames, masks[:1])[0], attention, atol=1e-5)


def test_frame_features_bring_the_levels_to_one_resolution():
    head = make_head(in_channels=6, stride=8)
    x = [torch.randn(2, 6, 32 // s * 4, 64 // s * 4) for s in (1, 2, 4, 8)]
    assert head.frame_features(x, None).shape == (2, 8, 64, 128)
    with pytest.raises(ValueError, match="stride is 5"):
        make_head(stride=5)


def test_no_instances_give_a_loss_that_reaches_every_parameter():
    head = make_head()
    frames = torch.randn(1, 2, 8, 6, 7)
    nothing = torch.zeros(0, dtype=torch.long)
    logits = head(frames[:, 0], frames, torch.zeros(0, 6, 7), nothing)
    loss = head.loss(logits, torch.zeros(0, 2, 24, 28))["loss_prop"]
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None for p in head.parameters())
    assert head.propagate(frames[0, 0], frames[0], torch.zeros(0, 6, 7)).shape == (0, 2, 6, 7)


# --- the loss -----------------------------------------------------------------------------------


def test_soft_iou_is_the_slides_formula():
    torch.manual_seed(0)
    a, b = torch.rand(3, 20), (torch.rand(4, 20) > 0.5).float()
    for i in range(3):
        for j in range(4):
            top = sum(float(p * q) for p, q in zip(a[i], b[j], strict=True))
            bottom = sum(float(p + q - p * q) for p, q in zip(a[i], b[j], strict=True))
            assert soft_iou(a[i], b[j]) == pytest.approx(top / bottom, rel=1e-5)
            assert pairwise_soft_iou(a, b)[i, j] == pytest.approx(top / bottom, rel=1e-5)
    assert soft_iou(torch.zeros(5), torch.zeros(5)) == 0


def test_loss_is_the_mean_over_instances_and_frames():
    torch.manual_seed(0)
    predicted = torch.rand(2, 3, 4, 5)
    targets = (torch.rand(2, 3, 4, 5) > 0.4).float()
    terms = [
        1 - soft_iou(predicted[i, t].flatten(), targets[i, t].flatten())
        for i in range(2)
        for t in range(3)
    ]
    assert propagation_loss(predicted, targets) == pytest.approx(float(sum(terms)) / 6, rel=1e-5)


def test_an_absent_instance_teaches_to_predict_nothing():
    targets = torch.zeros(1, 2, 6, 6)
    targets[0, 0, :3, :3] = 1  # seen in the first frame, absent from the second
    logits = torch.zeros(1, 2, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss = propagation_loss(logits.sigmoid(), targets)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert (logits.sigmoid()[0, 1] < 0.05).all()
    assert ((logits.sigmoid()[0, 0] > 0.5) == targets[0, 0].bool()).all()
    assert propagation_loss(torch.zeros(1, 2, 6, 6), torch.zeros(1, 2, 6, 6)) == 0


# --- motion -------------------------------------------------------------------------------------


def moving_squares(rng: np.random.Generator):
    """Two squares that look alike and move apart by three cells, on a grid of 12 x 20.

    Returns the frames' features (2, 8, 12, 20) and each square's masks (2, 2, 12, 20).
    """
    masks = np.zeros((2, 2, 12, 20), dtype=np.float32)
    for n, row in enumerate((1, 7)):
        column, y = rng.integers(5, 12), row + rng.integers(0, 2)
        step = rng.choice([-3, 3])
        masks[n, 0, y : y + 4, column : column + 4] = 1
        masks[n, 1, y : y + 4, column + step : column + step + 4] = 1
    patterns = np.linspace(-1, 1, 20)[None] * np.ones((12, 1))
    inside = masks.sum(0)
    features = [np.stack([inside[t], patterns, patterns.T.mean() + 0 * patterns]) for t in range(2)]
    # Blurred copies stand for the coarser levels of a pyramid, which see motion from afar.
    stack = []
    for feature in features:
        blurred = [feature[0]]
        for _ in range(5):
            padded = np.pad(blurred[-1], 1, mode="edge")
            blurred.append(
                sum(
                    padded[1 + dy : 13 + dy, 1 + dx : 21 + dx]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                )
                / 9
            )
        stack.append(np.stack([*blurred, feature[1], np.ones((12, 20))]))
    return torch.tensor(np.stack(stack), dtype=torch.float32), torch.tensor(masks)


@pytest.fixture(scope="module")
def trained_head():
    """A head that learnt where one of two squares, which are alike, moves to."""
    head = make_head()
    head.init_weights()
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(300):
        clips = [moving_squares(rng) for _ in range(8)]
        frames = torch.stack([features for features, _ in clips])
        masks = torch.cat([masks for _, masks in clips])
        clip_inds = torch.arange(8).repeat_interleave(2)
        optimizer.zero_grad()
        head.loss(head(frames[:, 0], frames, masks[:, 0], clip_inds), masks)["loss_prop"].backward()
        optimizer.step()
    return head


def test_a_trained_head_finds_an_object_where_it_moved_to(trained_head):
    head = copy.deepcopy(trained_head)

    def quality() -> float:
        """Mean IoU of each square's mask in the frame it moved to."""
        rng = np.random.default_rng(1)
        ious = []
        for _ in range(20):
            frames, masks = moving_squares(rng)
            found = head.propagate(frames[0], frames, masks[:, 0])[:, 1] > 0.5
            ious += soft_iou(found.float().flatten(1), masks[:, 1].flatten(1)).tolist()
        return float(np.mean(ious))

    moved = quality()
    assert moved > 0.8
    torch.nn.init.zeros_(head.offset.weight)
    torch.nn.init.zeros_(head.offset.bias)
    assert quality() < moved - 0.2


def test_trained_attention_tells_objects_from_background(trained_head):
    rng = np.random.default_rng(2)
    inside, outside = [], []
    for _ in range(20):
        frames, masks = moving_squares(rng)
        attention = trained_head.attention(frames).sigmoid()[:, 0]
        objects = masks.amax(0) > 0.5
        inside.append(attention[objects].mean())
        outside.append(attention[~objects].mean())
    assert np.mean([float(x) for x in inside]) > 0.8
    assert np.mean([float(x) for x in outside]) < 0.1


def test_trained_masks_of_two_objects_do_not_share_pixels(trained_head):
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(20):
        frames, masks = moving_squares(rng)
        found = trained_head.propagate(frames[0], frames, masks[:, 0])
        other = masks.flip(0)
        shares.append((found * other).sum() / other.sum())
    assert np.mean([float(x) for x in shares]) < 0.25


# --- optical flow -------------------------------------------------------------------------------


def test_flow_carries_a_mask_with_the_picture():
    rng = np.random.default_rng(0)
    texture = torch.tensor(rng.uniform(0, 1, (1, 3, 16, 24)), dtype=torch.float32)
    texture = torch.nn.functional.interpolate(texture, (64, 96), mode="bicubic")
    frames = torch.cat([texture, texture.roll((4, 8), (2, 3))]) * 2 - 1
    masks = torch.zeros(1, 16, 24)
    masks[0, 4:9, 6:12] = 1
    flow = FlowPropagation(stride=4)
    grey = flow.frame_features((), frames)
    warped = flow.propagate(grey[0], grey, masks)
    assert soft_iou(warped[0, 0].flatten(), masks[0].flatten()) > 0.98
    moved = masks.roll((1, 2), (1, 2))
    assert soft_iou(warped[0, 1].flatten(), moved[0].flatten()) > 0.8
    assert flow.propagate(grey[0], grey, masks[:0]).shape == (0, 2, 16, 24)
    logits = flow(grey[:1], grey[None], masks, torch.tensor([0]))
    torch.testing.assert_close(logits.sigmoid(), warped, atol=1e-5, rtol=0)
    assert flow.loss(logits, masks[:, None]) == {}
