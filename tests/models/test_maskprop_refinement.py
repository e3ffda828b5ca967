"""The refinement network: what it starts from, what it learns, and its place in MaskProp."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from streaming import SIZE, assert_same, metas, run, video
from test_maskprop import training_clip

from mmvis_plugin.models.maskprop import MaskRefiner
from mmvis_plugin.models.maskprop.refinement import mask_boxes

CONFIG = Path(__file__).parents[2] / "configs/maskprop/maskprop_r18_shapes.py"
STRIDE, HEIGHT, WIDTH = 8, 64, 96
SMALL = dict(size=32, stride=2, channels=16, num_blocks=2, norm_cfg=dict(type="GN", num_groups=4))
META = dict(scale_factor=(1.0, 1.0), ori_shape=(HEIGHT, WIDTH))


def make_refiner(**settings) -> MaskRefiner:
    torch.manual_seed(0)
    refiner = MaskRefiner(**(SMALL | settings))
    refiner.init_weights()
    return refiner


def discs(generator: torch.Generator, count: int = 4):
    """Frames with a bright disc in noise, its mask, and the mask on the coarse grid."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    spread = torch.rand(count, 3, generator=generator)
    y, x = 20 + 24 * spread[:, 0], 20 + 56 * spread[:, 1]
    radius = 6 + 10 * spread[:, 2]
    distance = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2
    masks = (distance < radius[:, None, None] ** 2).float()
    noise = torch.randn(count, 3, HEIGHT, WIDTH, generator=generator)
    frames = 0.3 * noise + masks[:, None]
    return frames, masks, F.avg_pool2d(masks[:, None], STRIDE)[:, 0].clamp(0.02, 0.98)


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.bool().flatten(1), b.bool().flatten(1)
    return float(((a & b).sum(1) / (a | b).sum(1)).mean())


def refine_each(refiner, frames, coarse):
    return torch.cat(
        [refiner.refine(f, c[None], STRIDE, META) for f, c in zip(frames, coarse, strict=True)]
    )


@torch.no_grad()
def test_it_starts_from_the_propagated_masks():
    frames, masks, coarse = discs(torch.Generator().manual_seed(0), 20)
    pasted = F.interpolate(coarse[:, None], (HEIGHT, WIDTH), mode="bilinear")[:, 0] > 0.5
    refined = refine_each(make_refiner(size=64), frames, coarse)
    assert iou(refined, pasted) > 0.95
    assert iou(refined, masks) < 0.9


def test_it_learns_outlines_finer_than_the_grid():
    generator = torch.Generator().manual_seed(0)
    refiner = make_refiner()
    optimizer = torch.optim.Adam(refiner.parameters(), lr=0.01)
    for _ in range(60):
        frames, masks, coarse = discs(generator)
        boxes = mask_boxes(masks, 1)
        optimizer.zero_grad()
        refiner.loss(frames, torch.arange(4), coarse, STRIDE, boxes, masks)[
            "loss_refine"
        ].backward()
        optimizer.step()
    frames, masks, coarse = discs(torch.Generator().manual_seed(1), 20)
    with torch.no_grad():
        refined = refine_each(refiner, frames, coarse)
        before = refine_each(make_refiner(), frames, coarse)
    assert iou(refined, masks) > 0.93
    assert iou(refined, masks) > iou(before, masks) + 0.08


def test_an_instance_is_drawn_alike_alone_and_among_others():
    frames, _, coarse = discs(torch.Generator().manual_seed(0), 3)
    refiner = make_refiner()
    torch.nn.init.normal_(refiner.predict.weight)
    together = refiner.refine(frames[0], coarse, STRIDE, META)
    for i in range(3):
        alone = refiner.refine(frames[0], coarse[i : i + 1], STRIDE, META)
        assert torch.equal(alone[0], together[i])


def test_crops_are_squares_with_context():
    crops = make_refiner(margin=0.25).crops(torch.tensor([[10.0, 20, 30, 24]]))
    assert crops.tolist() == [[5, 7, 35, 37]]


def test_the_box_of_a_faint_mask_is_that_of_its_peak():
    masks = torch.full((1, 6, 9), 0.01)
    masks[0, 2:4, 5] = 0.1
    assert mask_boxes(masks, 8).tolist() == [[40, 16, 48, 32]]


def test_propagated_masks_get_no_gradient_and_no_objects_train():
    frames, masks, coarse = discs(torch.Generator().manual_seed(0))
    coarse.requires_grad_()
    refiner = make_refiner()
    boxes = mask_boxes(masks, 1)
    refiner.loss(frames, torch.arange(4), coarse, STRIDE, boxes, masks)["loss_refine"].backward()
    assert coarse.grad is None
    nothing = torch.zeros(0, dtype=torch.long)
    loss = refiner.loss(frames, nothing, coarse[:0], STRIDE, boxes[:0], masks[:0])["loss_refine"]
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None for parameter in refiner.parameters())


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="power of two that divides size, got 3 and 384"):
        MaskRefiner(stride=3)


# --- in MaskProp ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    settings = Config.fromfile(CONFIG).model
    settings.detector.pop("init_cfg")
    settings.update(key_masks="propagated", mask_refiner=dict(type="MaskRefiner", **SMALL))
    settings.propagation_head.competition = "softmax"
    settings.reach = 1
    settings.detector.test_cfg.rcnn.score_thr = 0.0
    settings.detector.test_cfg.rcnn.max_per_img = 4
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    torch.nn.init.normal_(model.detector.rpn_head.rpn_cls.weight, std=0.2)
    torch.nn.init.normal_(model.detector.roi_head.bbox_head.fc_cls.weight, std=0.2)
    torch.nn.init.normal_(model.mask_refiner.predict.weight)
    return model.eval()


def test_a_stream_is_refined_alike_however_it_is_cut(model):
    frames = video(0, 7)
    assert_same(run(model, frames, 1), run(model, frames, 7))


def test_pictures_are_kept_for_coming_key_frames_only(model):
    state = model.start_video({})
    model.step(state, video(0, 6), metas(6))
    assert [frame.picture is not None for frame in state.window] == [False, False, True]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_training_steps_have_the_loss_of_the_refinement(model, dtype):
    sample = training_clip([[0, 1], [1, 0], [1]], key=1)
    inputs = torch.randn(1, 3, 3, *SIZE)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        losses = model(inputs, [sample], mode="loss")
    assert 0 < losses["loss_refine"] < 1
    sum(sum(v) if isinstance(v, list) else v for k, v in losses.items() if "loss" in k).backward()
    assert model.mask_refiner.predict.weight.grad.abs().max() > 0


def test_detected_masks_are_not_refined():
    settings = Config.fromfile(CONFIG).model
    settings.update(mask_refiner=dict(type="MaskRefiner"), key_masks="detected")
    with pytest.raises(ValueError, match="refines propagated masks"):
        MODELS.build(settings)
