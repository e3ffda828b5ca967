"""tools/model_converters/mssts.py: SeqFormer and MSSTS-VIS weights, Deformable DETR as a start."""

import argparse
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from numbered_weights import numbered
from seqformer_original import Layout, ResNeXt, Swin, linear, released_layout
from torch import nn

from mmvis_plugin.apis.conversion import build_model, convert, fit
from mmvis_plugin.models.code_base import reorder_patches
from mmvis_plugin.models.mssts.released import SEQFORMER
from mmvis_plugin.ytvis import categories

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = ROOT / "configs/mssts"
CONFIG = CONFIGS / "seqformer_r50_ytvis19.py"
SHAPES_CONFIG = CONFIGS / "seqformer_r18_shapes.py"


@pytest.fixture
def run_detr(run_converter):
    return partial(run_converter, "deformable_detr")


@pytest.fixture
def run(run_converter):
    return partial(run_converter, "seqformer")


def released(*sizes):
    """What the authors' training code writes, by its default arguments' names."""
    weights = numbered(released_layout(Layout(*sizes)))
    for key in weights:
        if ".decoder.bbox_embed." in key:  # the same modules under two names
            weights[key] = weights[key.replace("transformer.decoder.", "")]
    return dict(model=weights, epoch=11, args=argparse.Namespace(lr=2e-4, lr_drop=[4, 10]))


def mssts_released(*sizes):
    """A checkpoint of MSSTS-VIS: SeqFormer's keys and a module it does not use."""
    checkpoint = released(*sizes)
    for i in range(3):
        name = f"detr.transformer.decoder.layers.{i}.temp_attn_box"
        extra = {f"{name}.qkv.weight": (900, 300), **linear(f"{name}.proj", 300, 300)}
        checkpoint["model"] |= numbered(extra)
    return checkpoint


@pytest.mark.parametrize(
    ("backbone", "config"),
    [
        (50, "seqformer_r50_ytvis19.py"),
        (101, "seqformer_r101_ytvis19.py"),
        (ResNeXt(), "seqformer_x101-32x8d_ytvis19.py"),
        (Swin(), "seqformer_swin-l_ytvis19.py"),
    ],
)
def test_every_released_weight_has_its_place(backbone, config):
    source = released(backbone)["model"]
    conversion = convert(SEQFORMER, source, "released.pth")
    assert len(conversion.origins) + len(conversion.dropped) == len(source)
    assert len(set(conversion.origins.values())) == len(conversion.origins)
    assert set(conversion.dropped.values()) <= {reason for _, reason in SEQFORMER.drops}
    model = build_model(CONFIGS / config, SEQFORMER.models)
    fit(SEQFORMER, conversion, model, "released.pth", config)
    assert not conversion.fresh
    assert conversion.state.keys() == model.state_dict().keys()


def test_checkpoint_of_mssts_vis(run, capsys):
    config = CONFIGS / "mssts_r50_ytvis19.py"
    written = run(mssts_released(50, 3, 3), "--config", config)
    output = capsys.readouterr().out
    assert "the model of SeqFormer or MSSTS-VIS" in output
    assert (
        "3 x detr.transformer.decoder.layers.*.temp_attn_box.qkv.weight: MSSTS-VIS does" in output
    )
    assert "3 x encoder.layers.*.ms_sts.intra.out_proj.weight" in output
    wanted = build_model(config, SEQFORMER.models).state_dict()
    fresh = {key for key in wanted.keys() - written["state_dict"].keys()}
    assert all(".ms_sts." in key or ".temporal." in key for key in fresh if key[:4] != "disc")
    assert written["state_dict"].keys() < wanted.keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("detr.backbone.0.body.layer2.0.downsample.1.bias", "backbone.layer2.0.downsample.1.bias"),
        ("detr.input_proj.1.0.bias", "neck.convs.1.conv.bias"),
        ("detr.input_proj.3.1.weight", "neck.extra_convs.0.gn.weight"),
        ("detr.transformer.level_embed", "encoder.level_embed"),
        (
            "detr.transformer.encoder.layers.5.self_attn.value_proj.bias",
            "encoder.layers.5.attention.value_proj.bias",
        ),
        (
            "detr.transformer.encoder.layers.0.linear2.weight",
            "encoder.layers.0.ffn.layers.1.weight",
        ),
        ("detr.query_embed.weight", "decoder.query_embedding.weight"),
        ("detr.transformer.decoder.layers.4.norm1.bias", "decoder.layers.4.norm_cross.bias"),
        ("detr.transformer.decoder.layers.4.norm2_box.bias", "decoder.layers.4.box_norm_self.bias"),
        (
            "detr.transformer.decoder.layers.1.self_attn_box.in_proj_weight",
            "decoder.layers.1.box_self_attention.in_proj_weight",
        ),
        (
            "detr.transformer.decoder.layers.1.cross_attn.output_proj.weight",
            "decoder.layers.1.cross_attention.output_proj.weight",
        ),
        (
            "detr.transformer.decoder.layers.1.cross_attn.output_proj_box.weight",
            "decoder.layers.1.box_output_proj.weight",
        ),
        ("detr.bbox_embed.2.layers.0.bias", "decoder.box_branches.2.layers.0.bias"),
        ("mask_head.dcn.weight", "mask_head.fuse_convs.2.weight"),
        ("controller.layers.2.bias", "mask_head.controller.layers.2.bias"),
    ],
)
def test_names(theirs, ours):
    source = released()["model"]
    converted = convert(SEQFORMER, source, "released.pth").state[ours]
    assert converted.shape == source[theirs].shape
    assert converted.flatten()[0] == source[theirs].flatten()[0]


def test_patch_merging_of_swin():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 6, 8, 5), torch.randn(3, 20), torch.randn(20)
    # Its authors' order of four neighbours: down before right.
    tokens = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    theirs = (torch.cat(tokens, dim=-1) + bias) @ weight.T
    # MMDetection's: channel by channel, as unfold gives them.
    unfolded = nn.functional.unfold(x.permute(0, 3, 1, 2), 2, stride=2).mT.view(1, 3, 4, 20)
    ours = (unfolded + reorder_patches(bias)) @ reorder_patches(weight).T
    torch.testing.assert_close(ours, theirs)


def deformable_detr(queries=20, refine=True, **changes):
    """MMDetection's Deformable DETR of the widths of our shapes config, all parameters random."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(SHAPES_CONFIG).model
    channels = cfg.encoder.channels
    backbone = cfg.backbone | dict(init_cfg=None)
    cfg.positional_encoding.pop("type")
    attention = dict(embed_dims=channels, num_heads=cfg.encoder.num_heads, batch_first=True)
    sampling = attention | dict(num_points=cfg.encoder.num_points)
    ffn = dict(embed_dims=channels, feedforward_channels=cfg.encoder.ffn_channels)
    layers = dict(num_layers=cfg.encoder.num_layers + 1)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="DeformableDETR",
            num_queries=queries,
            num_feature_levels=4,
            with_box_refine=refine,
            data_preprocessor=dict(type="DetDataPreprocessor"),
            backbone=backbone,
            neck=cfg.neck | dict(bias="auto"),
            encoder=layers | dict(layer_cfg=dict(self_attn_cfg=sampling, ffn_cfg=ffn)),
            decoder=layers
            | dict(
                return_intermediate=True,
                post_norm_cfg=None,
                layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
            ),
            positional_encoding=cfg.positional_encoding,
            bbox_head=dict(
                type="DeformableDETRHead",
                num_classes=80,
                embed_dims=channels,
                sync_cls_avg_factor=True,
                loss_cls=dict(type="FocalLoss", use_sigmoid=True),
                loss_bbox=dict(type="L1Loss"),
                loss_iou=dict(type="GIoULoss"),
            ),
            train_cfg=None,
            test_cfg=dict(max_per_img=100),
            **changes,
        )
    )
    model.init_weights()  # level_embed is whatever memory holds before
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_deformable_detr_starts_boxes_and_instances(run_detr, capsys):
    """On a single frame the boxes are those of the detector, layer by layer."""
    cfg = Config.fromfile(SHAPES_CONFIG)
    detector = deformable_detr()
    written = run_detr(dict(state_dict=detector.state_dict()), "--config", SHAPES_CONFIG)
    output = capsys.readouterr().out
    assert "a training start from MMDetection's Deformable DETR" in output and not written["meta"]
    assert "4 x bbox_head.cls_branches.*.weight: scores of COCO's classes" in output
    assert "zero, the source does without  3 x neck.convs.*.conv.bias" in output
    assert re.search(r"dropped  \d+ x encoder\.layers\..*: the model has no such part", output)

    cfg.model.pop("init_cfg")
    model = MODELS.build(cfg.model).eval()
    missing, unexpected = model.load_state_dict(written["state_dict"], strict=False)
    assert not unexpected
    anew = ("mask_head.", "decoder.class_branches.", "decoder.layers.")
    assert missing and all(key.startswith(anew) for key in missing)

    frame = torch.randn(1, 3, 64, 96)
    sizes = [(64, 96)]
    with torch.no_grad():
        ours = model.decoder(model.encode(frame[None], sizes))
        sample = DetDataSample(metainfo=dict(img_shape=(64, 96), batch_input_shape=(64, 96)))
        # As many layers as ours has.
        num_layers = len(model.decoder.layers)
        detector.encoder.layers = detector.encoder.layers[:num_layers]
        detector.decoder.layers = detector.decoder.layers[:num_layers]
        states = detector.forward_transformer(detector.extract_feat(frame), [sample])
        boxes = detector.bbox_head(**states)[1]
    for predictions, expected in zip(ours, boxes, strict=True):
        torch.testing.assert_close(predictions.boxes[:, 0], expected, atol=1e-5, rtol=1e-4)


def test_other_queries_and_the_two_stage_form(run_detr, capsys):
    state = run_detr(
        dict(state_dict=deformable_detr(queries=30).state_dict()), "--config", SHAPES_CONFIG
    )["state_dict"]
    assert "decoder.query_embedding.weight" not in state
    assert "another shape: (30, 192) there, (20, 192) here" in capsys.readouterr().out
    two_stage = deformable_detr(as_two_stage=True).state_dict()
    state = run_detr(dict(state_dict=two_stage), "--config", SHAPES_CONFIG)["state_dict"]
    assert "decoder.query_embedding.weight" not in state
    assert "memory_trans_fc.weight: of the two-stage form" in capsys.readouterr().out


def test_classes_and_wrong_input(run, tmp_path):
    assert run(released())["meta"]["dataset_meta"]["classes"] == categories.YTVIS19
    written = run(released(), "--classes", "ytvis21")
    assert written["meta"]["dataset_meta"]["classes"] == categories.YTVIS21
    written = run(released(), "--config", CONFIGS / "seqformer_r50_ytvis21.py")
    assert written["meta"]["dataset_meta"]["classes"] == categories.YTVIS21


def test_classes_of_another_dataset_have_no_names(run, capsys):
    checkpoint = released()
    for key, value in checkpoint["model"].items():
        if key.startswith("detr.class_embed."):
            checkpoint["model"][key] = value[:27]
    assert run(checkpoint)["meta"] == {}
    assert "no class names" in capsys.readouterr().out
    with pytest.raises(
        SystemExit, match="^error: ytvis21 has 40 names, but the model has 27 classes"
    ):
        run(checkpoint, "--classes", "ytvis21")


def other_checkpoints():
    extended, incomplete, unequal = released(), released(), released()
    extended["model"]["detr.segmentation.weight"] = torch.zeros(1)
    del incomplete["model"]["mask_head.lay3.bias"]
    unequal["model"]["detr.transformer.decoder.bbox_embed.1.layers.0.bias"] = torch.zeros(256)
    resnet = {"conv1.weight": torch.zeros(1)}
    config = ["--config", CONFIG]
    return [
        (resnet, [], "is not a checkpoint of SeqFormer or .* for example conv1.weight"),
        ({}, [], "for example nothing"),
        (dict(model=3), [], "holds a int, not a dict of weights"),
        (dict(model={"a": 3}), [], "weights only: 'a' is a int"),
        (extended, [], "another model than SeqFormer.*detr.segmentation.weight"),
        (unequal, [], "bbox_embed.1.layers.0.bias is not the same as detr.bbox_embed.1"),
        (incomplete, config, "1 weights differ.*mask_head.fuse_convs.0.bias is missing"),
        (released(101), config, r"not of the model in .*r50.*backbone.layer3"),
        (released(50, 3, 3), config, r"not of the model .*layers.*encoder.layers.3.\S+ is missing"),
        (released(50, 6, 6, 100), config, r"query_embedding.weight is \(100, 512\)"),
        (released(), ["--config", "none.py"], "none.py: no such config"),
        (
            released(),
            ["--config", ROOT / "configs/maskprop/maskprop_r18_shapes.py"],
            "is of type MaskProp, not MSSTSVIS",
        ),
        (dict(model=nn.Linear(1, 1)), [], "was not loaded"),
    ]


@pytest.mark.parametrize(("checkpoint", "options", "message"), other_checkpoints())
def test_wrong_input_is_one_line_and_leaves_no_file(run, tmp_path, checkpoint, options, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(checkpoint, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]
