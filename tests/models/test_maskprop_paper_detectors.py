"""MaskProp on the paper's detectors, narrowed: Hybrid Task Cascade, deformable convolutions."""

from pathlib import Path

import pytest
import torch
from mmdet.models.roi_heads import PointRendRoIHead, SCNetRoIHead, SparseRoIHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmvis_plugin.models.layers.deform_conv import Float32DeformConv2dPack
from mmvis_plugin.models.maskprop.roi_masks import (
    check_detector,
    detect,
    paste_masks,
    roi_masks,
)

CONFIGS = Path(__file__).parents[2] / "configs"
HTC = "maskprop/maskprop_r50-dcn-htc_ytvis19"
SIZE = (64, 96)
DCN = dict(type="Float32DCN", deform_groups=1, fallback_on_stride=False)


def nodes(value):
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from nodes(item)


def narrow(config):
    """The detector of a config with 16 in place of 256 channels, and plain convolutions."""
    model = Config.fromfile(CONFIGS / f"{config}.py", import_custom_modules=False).model
    detector = model.get("detector", model)
    for name in ("init_cfg", "data_preprocessor"):
        detector.pop(name, None)
    for name in ("dcn", "stage_with_dcn", "init_cfg"):
        detector.backbone.pop(name, None)
    detector.backbone.base_channels = 8
    detector.neck.in_channels = [32, 64, 128, 256]
    for node in nodes(detector):
        for key in ("in_channels", "out_channels", "feat_channels", "conv_out_channels"):
            if node.get(key) == 256:
                node[key] = 16
        if "fc_out_channels" in node:
            node["fc_out_channels"] = 32
    # Untrained scores are all alike and low.
    detector.test_cfg.rcnn.score_thr = 0.0
    detector.test_cfg.rcnn.max_per_img = 5
    return detector


def cascade():
    """Cascade Mask R-CNN, which is HTC without the flow of information between its stages."""
    detector = narrow(HTC)
    detector.type = "CascadeRCNN"
    roi_head = detector.roi_head
    roi_head.type = "CascadeRoIHead"
    del roi_head["interleaved"], roi_head["mask_info_flow"]
    for head in roi_head.mask_head:
        head.type = "FCNMaskHead"
        del head["with_conv_res"]
    return detector


DETECTORS = {
    "mask_rcnn": lambda: narrow("_base_/models/mask_rcnn_r50_fpn"),
    "cascade": cascade,
    "htc": lambda: narrow(HTC),
}


def build(settings):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    module = MODELS.build(settings)
    module.init_weights()
    module.eval()
    return module


def segmentor(detector, reach=1):
    return build(
        dict(
            type="MaskProp",
            detector=detector,
            propagation_head=dict(
                type="PropagationHead",
                in_channels=16,
                channels=16,
                norm_cfg=dict(type="GN", num_groups=4),
            ),
            tracker=dict(type="ClipTracker"),
            reach=reach,
        )
    )


def meta(t=0):
    sizes = dict.fromkeys(("ori_shape", "img_shape", "pad_shape", "batch_input_shape"), SIZE)
    return dict(frame_id=t, scale_factor=(1.0, 1.0), **sizes)


@pytest.mark.parametrize("name", DETECTORS)
def test_detections_and_masks_are_the_detectors_own(name):
    detector = build(DETECTORS[name]())
    for parameter in detector.roi_head.mask_head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image, sample = torch.randn(1, 3, *SIZE), DetDataSample(metainfo=meta())
    with torch.no_grad():
        expected = detector.predict(image, [sample], rescale=False)[0].pred_instances
        x = detector.extract_feat(image)
        proposals = detector.rpn_head.predict(x, [sample], rescale=False)
        found = detect(detector, x, [meta()], proposals)[0]
        rois = bbox2roi([found.bboxes])
        masks = roi_masks(detector.roi_head, x, rois, found.labels)
        if name == "cascade":  # whose own masks are a mean over the stages; ours the last one's
            last = detector.roi_head._mask_forward(2, x, rois)["mask_preds"]
            assert torch.allclose(masks, last[range(len(masks)), found.labels].sigmoid())
    assert len(found) == 5
    assert torch.allclose(found.bboxes, expected.bboxes)
    assert torch.allclose(found.scores, expected.scores)
    assert found.labels.equal(expected.labels)
    if name != "cascade":
        pasted = paste_masks(masks, found.bboxes, 1, SIZE) >= 0.5
        assert pasted.any() and not pasted.all()
        assert (pasted != expected.masks).float().mean() < 1e-4


def clip(num_frames=3):
    """Two objects that stand still, and the frame in the middle as key frame."""
    sample, frames = TrackDataSample(), []
    masks = torch.zeros(2, *SIZE)
    masks[0, 8:40, 8:40] = masks[1, 16:56, 50:90] = 1
    for t in range(num_frames):
        frame = DetDataSample(metainfo=meta(t))
        frame.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8, 40, 40], [50, 16, 90, 56]]),
            labels=torch.tensor([3, 7]),
            masks=BitmapMasks(masks.byte().numpy(), *SIZE),
            instances_ids=torch.tensor([0, 1]),
        )
        frame.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        frames.append(frame)
    sample.video_data_samples = frames
    sample.set_metainfo(dict(key_frames_inds=[1], ref_frames_inds=[0, 2]))
    return sample


def test_every_stage_of_the_cascade_is_trained():
    detector = narrow(HTC)
    detector.backbone.update(dcn=DCN, stage_with_dcn=(False, True, True, True))
    model = segmentor(detector).train()
    losses = model(torch.randn(1, 3, 3, *SIZE), [clip()], mode="loss")
    stages = {f"s{i}.loss_{part}" for i in range(3) for part in ("cls", "bbox", "mask")}
    assert stages | {"loss_rpn_cls", "loss_rpn_bbox", "loss_prop"} <= set(losses)

    loss, _ = model.parse_losses(losses)
    loss.backward(retain_graph=True)
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing

    # The masks that are propagated come out of all three mask heads, each of which takes in the
    # features of the one before.
    model.zero_grad()
    losses["loss_prop"].backward()
    for head in model.detector.roi_head.mask_head:
        assert head.convs[0].conv.weight.grad.abs().sum() > 0


def test_a_cascade_streams():
    model = segmentor(DETECTORS["htc"](), reach=1)
    state = model.start_video({})
    results = model.step(state, torch.randn(4, 3, *SIZE), [meta(t) for t in range(4)])
    results += model.finish(state)[0]
    assert [frame.frame_id for frame in results] == [0, 1, 2, 3]


def test_detectors_that_cannot_give_masks_are_refused():
    without_masks = narrow("_base_/models/mask_rcnn_r50_fpn")
    without_masks.type = "FasterRCNN"
    del without_masks.roi_head["mask_head"], without_masks.roi_head["mask_roi_extractor"]
    with pytest.raises(TypeError, match="boxes and masks"):
        check_detector(build(without_masks))
    with pytest.raises(TypeError, match="no roi_head"):
        check_detector(torch.nn.Identity())
    detector = build(cascade())
    for other in (PointRendRoIHead, SCNetRoIHead, SparseRoIHead):
        detector.roi_head.__class__ = other
        with pytest.raises(TypeError, match=f"CascadeRCNN has {other.__name__}"):
            check_detector(detector)


def test_a_semantic_branch_is_refused():
    detector = narrow(HTC)
    detector.roi_head.semantic_roi_extractor = dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
        out_channels=16,
        featmap_strides=[8],
    )
    detector.roi_head.semantic_head = dict(
        type="FusedSemanticHead",
        num_ins=5,
        fusion_level=1,
        num_convs=1,
        in_channels=16,
        conv_out_channels=16,
        num_classes=4,
    )
    with pytest.raises(TypeError, match="semantic"):
        check_detector(build(detector))


# --- deformable convolutions --------------------------------------------------------------------


def backbone(**settings):
    return dict(type="ResNet", depth=50, base_channels=8, norm_eval=True, **settings)


def test_weights_of_a_plain_backbone_give_the_plain_features(tmp_path):
    plain = build(backbone())
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    # As in the configs, the initialisation of the backbone comes first. It reaches the convolutions
    # that predict the offsets, of which the file has nothing.
    dcn_net = build(
        backbone(
            dcn=DCN,
            stage_with_dcn=(False, True, True, True),
            init_cfg=[
                dict(type="Kaiming", layer="Conv2d"),
                dict(type="Pretrained", checkpoint=str(tmp_path / "plain.pth")),
            ],
        )
    )
    deformable = [m for m in dcn_net.modules() if isinstance(m, Float32DeformConv2dPack)]
    assert len(deformable) == 4 + 6 + 3
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        for ours, expected in zip(dcn_net(image), plain(image), strict=True):
            assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


def test_deformable_convolution_is_mmcvs_also_in_bfloat16():
    torch.manual_seed(0)
    ours = Float32DeformConv2dPack(4, 6, 3, padding=1)
    mmcvs = Float32DeformConv2dPack.__base__(4, 6, 3, padding=1)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    mmcvs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 8, 9)
    expected = mmcvs(x)
    assert ours(x).equal(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).equal(expected)
        rounded = ours(x.bfloat16())
    assert rounded.dtype == torch.float32 and rounded.isfinite().all()


def test_maps_smaller_than_the_kernel():
    assert Float32DeformConv2dPack(4, 6, 3, padding=1)(torch.randn(1, 4, 2, 3)).shape == (
        1,
        6,
        2,
        3,
    )
