import re
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from numbered_weights import numbered
from stmask_original import backbone_layout, conv, released_layout
from torch import nn

from mmvis_plugin.apis.conversion import build_model, convert, fit
from mmvis_plugin.models.stmask.released import STMASK
from mmvis_plugin.ytvis import categories

ROOT = Path(__file__).resolve().parents[2]

CONFIG = ROOT / "configs/stmask/stmask_r50-dcn_fca-ada_ytvis19.py"
CONFIG_2021 = ROOT / "configs/stmask/stmask_r50-dcn_fca_ytvis21.py"
IMAGE_CONFIG = ROOT / "configs/stmask/stmask_r50-dcn_fca-ada_coco.py"


@pytest.fixture
def run(run_converter):
    return partial(run_converter, "stmask")


def yolact_plus_layout():
    """Key -> shape of a YOLACT++ R-50 checkpoint: all blocks of three stages deformable, 9 anchors
    of 80 classes, mask re-scoring."""
    layout = backbone_layout(50, dcn_interval=1)
    for i, channels in enumerate((2048, 1024, 512)):
        layout |= conv(f"fpn.lat_layers.{i}", 256, channels, (1, 1))
        layout |= conv(f"fpn.pred_layers.{i}", 256, 256)
    for i in range(2):
        layout |= conv(f"fpn.downsample_layers.{i}", 256, 256)
    for i in (0, 2, 4, 8):
        layout |= conv(f"proto_net.{i}", 256, 256)
    layout |= conv("proto_net.10", 32, 256, (1, 1))
    layout |= conv("prediction_layers.0.upfeature.0", 256, 256)
    for branch, channels in (("bbox", 4), ("conf", 81), ("mask", 32)):
        layout |= conv(f"prediction_layers.0.{branch}_layer", 9 * channels, 256)
    layout |= conv("semantic_seg_conv", 80, 256, (1, 1))
    for i, (inputs, outputs) in enumerate([(1, 8), (8, 16), (16, 32), (32, 64), (64, 128)]):
        layout |= conv(f"maskiou_net.maskiou_net.{2 * i}", outputs, inputs)
    return layout | conv("maskiou_net.maskiou_net.10", 80, 128, (1, 1))


def image_layout(calibration, num_classes=80):
    """An STMask model for images: without temporal fusion."""
    layout = released_layout(50, calibration, num_classes)
    return {key: shape for key, shape in layout.items() if not key.startswith("TemporalNet.")}


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("calibration", [None, "ada", "ali"])
def test_every_released_weight_has_its_place(depth, calibration):
    name = "fca" + ("" if calibration is None else f"-{calibration}")
    source = numbered(released_layout(depth, calibration))
    conversion = convert(STMASK, source, "released.pth")
    assert not conversion.dropped and not conversion.merged and not conversion.is_start
    assert len(conversion.state) == len(source)
    config = ROOT / f"configs/stmask/stmask_r{depth}-dcn_{name}_ytvis19.py"
    model = build_model(config, STMASK.models)
    fit(STMASK, conversion, model, "released.pth", config.name)
    assert not conversion.fresh
    assert conversion.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.conv1.weight", "detector.backbone.conv1.weight"),
        ("backbone.layers.0.1.bn2.bias", "detector.backbone.layer1.1.bn2.bias"),
        (
            "backbone.layers.3.0.downsample.1.weight",
            "detector.backbone.layer4.0.downsample.1.weight",
        ),
        (
            "backbone.layers.1.2.conv2.conv_offset_mask.bias",
            "detector.backbone.layer2.2.conv2.conv_offset.bias",
        ),
        ("backbone.layers.1.0.conv2.bias", "detector.backbone.layer2.0.conv2.bias"),
        ("fpn.lat_layers.0.weight", "detector.neck.lateral_convs.2.conv.weight"),
        ("fpn.pred_layers.2.bias", "detector.neck.fpn_convs.0.conv.bias"),
        ("fpn.downsample_layers.1.bias", "detector.neck.fpn_convs.4.conv.bias"),
        ("proto_net.10.weight", "detector.mask_head.protonet.10.weight"),
        ("prediction_layers.0.upfeature.0.bias", "detector.bbox_head.shared_conv.conv.bias"),
        ("prediction_layers.0.bbox_extra.2.bias", "detector.bbox_head.reg_convs.1.conv.bias"),
        ("prediction_layers.0.track_extra.0.bias", "detector.bbox_head.track_convs.0.conv.bias"),
        ("prediction_layers.0.bbox_layer.1.weight", "detector.bbox_head.reg_preds.1.weight"),
        ("prediction_layers.0.mask_layer.0.bias", "detector.bbox_head.mask_preds.0.bias"),
        (
            "prediction_layers.0.centerness_layer.2.bias",
            "detector.bbox_head.centerness_preds.2.bias",
        ),
        (
            "prediction_layers.0.conf_layer.1.conv_adaption.weight",
            "detector.bbox_head.cls_preds.1.conv_adapt.weight",
        ),
        (
            "prediction_layers.0.conf_layer.2.conv_offset.weight",
            "detector.bbox_head.cls_preds.2.conv_offset.weight",
        ),
        (
            "prediction_layers.0.conf_layer.0.conv.bias",
            "detector.bbox_head.cls_preds.0.conv_pred.bias",
        ),
        ("TemporalNet.conv2.bias", "temporal_fusion.convs.1.conv.bias"),
        ("TemporalNet.fc_coeff.weight", "temporal_fusion.fc_coeff.weight"),
    ],
)
def test_names(theirs, ours):
    source = numbered(released_layout(50, "ada"))
    converted = convert(STMASK, source, "released.pth").state[ours]
    assert converted.shape == source[theirs].shape
    assert converted.flatten()[0] == source[theirs].flatten()[0]


def test_yolact_plus_starts_a_training(run, capsys):
    source = numbered(yolact_plus_layout())
    written = run(source, "--config", CONFIG)
    state, output = written["state_dict"], capsys.readouterr().out
    assert "classes" not in written["meta"].get("dataset_meta", {})
    assert state["detector.neck.lateral_convs.1.conv.weight"].shape == (256, 1024, 1, 1)
    assert "a training start" in output
    for reason in ("mask re-scoring", "semantic branch", "for all anchors of YOLACT++ at once"):
        assert reason in output
    assert "not in the source, stays initialised  1 x temporal_fusion.fc_box.weight" in output
    assert "2 x detector.bbox_head.reg_convs.*.conv.weight" in output
    named = re.findall(r"^  (?:dropped|merged).*  (\d+) x ", output, re.MULTILINE)
    assert sum(map(int, named)) + len(state) == len(source)
    wanted = build_model(CONFIG, STMASK.models).state_dict().keys()
    assert state.keys() < wanted
    anew = ("temporal_fusion.", "detector.bbox_head.")
    assert all(key.startswith(anew) for key in wanted - state.keys())


def test_deformable_blocks_that_are_plain_here_take_over_their_masks(run, capsys):
    """YOLACT++ R-50 has deformable convolutions in every block, STMask in every second."""
    torch.manual_seed(0)
    source = numbered(yolact_plus_layout())
    deformable, plain = "backbone.layers.1.0.conv2", "backbone.layers.1.1.conv2"
    for block in (deformable, plain):
        source[f"{block}.weight"] = torch.randn(128, 128, 3, 3) / 34
        source[f"{block}.conv_offset_mask.bias"] = torch.cat([torch.zeros(18), torch.randn(9)])
    theirs = MODELS.get("Float32DCNv2")(128, 128, 3, padding=1)  # no offsets
    theirs.weight.data = source[f"{plain}.weight"]
    theirs.bias.data = source[f"{plain}.bias"] = torch.randn(128)
    theirs.conv_offset.bias.data = source[f"{plain}.conv_offset_mask.bias"]
    state = run(source, "--config", CONFIG)["state_dict"]
    ours = "detector.backbone.layer2.0.conv2.weight"
    assert torch.equal(state[ours], source[f"{deformable}.weight"])
    mean = "detector.backbone.layer2.1.bn2.running_mean"
    x = torch.randn(1, 128, 5, 6)
    found = F.conv2d(x, state["detector.backbone.layer2.1.conv2.weight"], padding=1)
    expected = theirs(x) - source["backbone.layers.1.1.bn2.running_mean"][:, None, None]
    torch.testing.assert_close(found - state[mean][:, None, None], expected)
    output = capsys.readouterr().out
    for tensor in ("weight", "bias"):
        blocks = "6 x backbone.layers.*.*.conv2"
        assert f"dropped  {blocks}.conv_offset_mask.{tensor}: a plain block here" in output


def test_image_model_for_the_same_classes_is_complete(run):
    state = run(numbered(image_layout("ada")), "--config", IMAGE_CONFIG)["state_dict"]
    assert state.keys() == build_model(IMAGE_CONFIG, STMASK.models).state_dict().keys()


def test_image_model_starts_a_training_on_other_classes(run, capsys):
    state = run(numbered(image_layout("ali")), "--config", CONFIG)["state_dict"]
    output = capsys.readouterr().out
    layer = "detector.bbox_head.cls_preds.1"
    reason = "another shape: (81,) there, (41,) here"
    assert f"dropped  3 x prediction_layers.*.conf_layer.*.conv.bias: {reason}" in output
    assert "3 x detector.bbox_head.cls_preds.*.conv_offset.weight" in output
    assert f"{layer}.conv_adapt.weight" in state and f"{layer}.conv_pred.bias" not in state


@pytest.mark.parametrize(
    ("calibration", "num_classes", "found"),
    [("ali", 80, "conv_offset.weight is missing"), ("ada", 40, r"is \(41,")],
)
def test_image_model_of_another_kind_is_refused(run, calibration, num_classes, found):
    source = numbered(image_layout(calibration, num_classes))
    with pytest.raises(SystemExit, match=f"not of the model in .*{found}"):
        run(source, "--config", IMAGE_CONFIG)


def test_folder_cannot_be_written(run, tmp_path):
    (tmp_path / "out.pth").mkdir()
    with pytest.raises(SystemExit, match=r"error: .*out\.pth"):
        run(numbered(released_layout(50)))


@pytest.mark.parametrize(
    ("num_classes", "file", "options", "names"),
    [
        (40, "STMask_plus_resnet50.pth", [], categories.YTVIS19),
        (40, "STMask_plus_resnet50_YTVIS2021.pth", [], categories.YTVIS21),
        (40, "mine.pth", ["--classes", "ytvis21"], categories.YTVIS21),
        (40, "mine.pth", ["--config", CONFIG_2021], categories.YTVIS21),
        (25, "STMask_plus_resnet50_OVIS.pth", [], categories.OVIS),
        (7, "mine.pth", [], None),
    ],
)
def test_class_names(run, num_classes, file, options, names):
    written = run(numbered(released_layout(50, None, num_classes)), *options, file=file)
    assert written["meta"].get("dataset_meta", {}).get("classes") == names


def other_weights():
    ours = {"state_dict": {"detector.backbone.conv1.weight": torch.zeros(1)}, "meta": {}}
    resnet = {"conv1.weight": torch.zeros(1)}
    extended = numbered(released_layout(50) | {"prediction_layers.0.depth_layer.weight": (1,)})
    incomplete = numbered(released_layout(50, "ada"))
    del incomplete["fpn.pred_layers.1.bias"]
    return [
        (ours, [], "not a checkpoint of STMask or YOLACT.*example detector.backbone.conv1.weight"),
        (resnet, [], "not a checkpoint of STMask or YOLACT.*no backbone.conv1.weight"),
        ({}, [], "not a checkpoint of STMask or YOLACT"),
        (extended, [], "another model.*prediction_layers.0.depth_layer.weight"),
        (incomplete, ["--config", CONFIG], "1 weights differ.*fpn_convs.1.conv.bias is missing"),
        (numbered(released_layout(101, "ada")), ["--config", CONFIG], "not of the model in .*r50"),
        (
            numbered(released_layout(50, "ali")),
            ["--config", CONFIG],
            "conv_offset.weight is missing",
        ),
        (numbered(released_layout(50, "ada", 25)), ["--config", CONFIG], r"\(26,.*model has \(41,"),
        (
            numbered(released_layout(50)),
            ["--classes", "ovis"],
            "25 names, .* has 40 classes",
        ),
        (numbered(released_layout(50)), ["--config", "none.py"], "none.py: no such config"),
        ({"model": nn.Linear(1, 1)}, [], "was not loaded"),
    ]


@pytest.mark.parametrize(("weights", "options", "message"), other_weights())
def test_wrong_input_is_one_line_and_leaves_no_file(run, tmp_path, weights, options, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(weights, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]
