"""tools/model_converters/efficientvis.py: QueryInst and Sparse R-CNN weights as a start."""

import os
import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmvis_plugin.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/efficientvis/efficientvis_r18_shapes.py"
SETTINGS = load_config(CONFIG).model
CHANNELS, STAGES = SETTINGS.neck.out_channels, SETTINGS.tracklet_head.num_stages


def detector(masks=True, num_proposals=20, depth=18):
    """QueryInst or Sparse R-CNN of the widths of our shapes config, all parameters random."""
    init_default_scope("mmdet")

    def conv(size, **changes):
        return dict(
            type="DynamicConv",
            in_channels=CHANNELS,
            feat_channels=16,
            out_channels=CHANNELS,
            input_feat_shape=size,
            **changes,
        )

    def extractor(size):
        return dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=size, sampling_ratio=2),
            out_channels=CHANNELS,
            featmap_strides=[4, 8, 16, 32],
        )

    box_head = dict(
        type="DIIHead",
        num_classes=80,
        in_channels=CHANNELS,
        feedforward_channels=SETTINGS.tracklet_head.stage.feedforward_channels,
        dynamic_conv_cfg=conv(5),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True),
    )
    mask_head = dict(
        type="DynamicMaskHead",
        num_convs=2,
        roi_feat_size=10,
        in_channels=CHANNELS,
        conv_out_channels=SETTINGS.tracklet_head.stage.mask_head.conv_out_channels,
        num_classes=80,
        norm_cfg=dict(type="BN"),
        dynamic_conv_cfg=conv(10, with_proj=False),
    )
    with_masks = dict(mask_roi_extractor=extractor(10), mask_head=[mask_head] * STAGES)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="QueryInst" if masks else "SparseRCNN",
            data_preprocessor=dict(type="DetDataPreprocessor"),
            backbone=SETTINGS.backbone | dict(depth=depth),
            neck=SETTINGS.neck,
            rpn_head=dict(
                type="EmbeddingRPNHead",
                num_proposals=num_proposals,
                proposal_feature_channel=CHANNELS,
            ),
            roi_head=dict(
                type="SparseRoIHead",
                num_stages=STAGES,
                stage_loss_weights=[1] * STAGES,
                proposal_feature_channel=CHANNELS,
                bbox_roi_extractor=extractor(5),
                bbox_head=[box_head] * STAGES,
                **(with_masks if masks else {}),
            ),
            train_cfg=None,
            test_cfg=ConfigDict(rpn=None, rcnn=dict()),
        )
    )
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 0.9)
    return model.eval()


@pytest.fixture
def run(tool, tmp_path, capsys):
    """Function: the tool on a checkpoint, as from the command line; its report."""

    def convert(checkpoint, config=CONFIG):
        source = tmp_path / "source.pth"
        torch.save(checkpoint, source)
        options = ["--config", config] if config else []
        arguments = ["queryinst", source, tmp_path / "out/start.pth", *options]
        tool("model_converters/convert_weights", *arguments)
        return capsys.readouterr().out

    return convert


@pytest.fixture(scope="module")
def model():
    init_default_scope("mmdet")
    torch.manual_seed(1)
    return MODELS.build(load_config(str(CONFIG)).model).eval()


def test_queryinst_starts_every_shared_part(run, model, tmp_path):
    source = detector()
    report = run(dict(meta={}, state_dict=source.state_dict()))
    written = torch.load(tmp_path / "out/start.pth", weights_only=True)["state_dict"]
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    assert set(written) <= set(initial)
    load_checkpoint(model, str(tmp_path / "out/start.pth"), map_location="cpu")

    theirs = source.state_dict()
    for key, value in model.state_dict().items():
        if key.startswith(("backbone.", "neck.")):
            assert torch.equal(value, theirs[key]), key
    for number, stage in enumerate(model.tracklet_head.stages):
        head = source.roi_head.bbox_head[number].state_dict()
        for key, value in stage.state_dict().items():
            if key.startswith(("temporal_attention", "fc_cls", "mask_head")):
                continue
            assert torch.equal(value, head[key]), key
        # The convolutions of the mask head, with theirs in evaluation mode.
        x = torch.randn(2, CHANNELS, 10, 10)
        features = [x, x]
        for ours, conv in zip(
            stage.mask_head.convs, source.roi_head.mask_head[number].convs, strict=True
        ):
            features = [ours(features[0]), conv(features[1])]
            torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)
        upsample = source.roi_head.mask_head[number].upsample
        assert torch.equal(stage.mask_head.upsample.weight, upsample.weight)

    new = {re.sub(r"stages\.\d\.", "", key) for key in initial if key not in written}
    assert {key.split(".")[1] for key in new} == {
        "temporal_attention",
        "temporal_attention_norm",
        "fc_cls",
        "mask_head",
        "tracklets",
    }
    assert {key for key in new if "mask_head" in key} == {
        f"tracklet_head.mask_head.conv_logits.{part}" for part in ("weight", "bias")
    }
    for line in (
        "taken over  90 x backbone\n",
        "taken over  8 x tracklet_head.stages.*.attention.attn\n",
        ".bn.weight: normalisation of a mask head, in its convolution\n",
        "dropped  4 x roi_head.bbox_head.*.fc_cls.weight: scores of COCO's classes, ",
        "another shape: (20, 64) there, (10, 64) here",
        "stays initialised  4 x tracklet_head.stages.*.temporal_attention_norm.weight\n",
        "stays initialised  4 x tracklet_head.stages.*.fc_cls.weight\n",
    ):
        assert line in report
    assert not any("fc_cls" in line for line in report.splitlines() if "taken over" in line)


def test_as_many_queries_as_proposals_start_from_them(run, model, tmp_path):
    source = detector(num_proposals=10)
    run(source.state_dict())  # also without the layout of a training checkpoint
    written = torch.load(tmp_path / "out/start.pth", weights_only=True)["state_dict"]
    key = "init_proposal_features.weight"
    assert torch.equal(
        written[f"tracklet_head.tracklets.{key}"], source.state_dict()[f"rpn_head.{key}"]
    )


def test_sparse_rcnn_has_no_masks(run):
    report = run(dict(state_dict=detector(masks=False).state_dict()))
    assert re.search(
        r"initialised  \d+ x tracklet_head.stages.*.mask_head.convs.*.conv.weight", report
    )
    assert re.search(r"taken over  \d+ x tracklet_head.stages.\*.reg_fcs.\*\n", report)


def test_another_model_or_backbone_is_refused(run, tmp_path):
    with pytest.raises(SystemExit, match="^error: .*not a checkpoint of MMDetection's QueryInst"):
        run(dict(state_dict={"backbone.conv1.weight": torch.zeros(1)}))
    with pytest.raises(SystemExit, match="^error: .* is not of the model in .*backbone"):
        run(dict(state_dict=detector(depth=34).state_dict()))
    with pytest.raises(SystemExit, match="^error: The model of .* is of type MaskProp"):
        run({}, ROOT / "configs/maskprop/maskprop_r18_shapes.py")
    with pytest.raises(SystemExit, match="^error: weights of .* need the config"):
        run({}, None)
    assert not (tmp_path / "out").exists()


class RunsOnLoad:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_malicious_checkpoint_does_not_run(run, tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(SystemExit, match="^error: .*source.pth was not loaded"):
        run(dict(state_dict={}, extra=RunsOnLoad(marker)))
    assert not marker.exists()
