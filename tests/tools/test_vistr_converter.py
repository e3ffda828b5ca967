"""VisTR's released weights, and its start on COCO, in our layout."""

from functools import partial
from pathlib import Path

import pytest
import torch
from numbered_weights import numbered
from seqformer_original import linear
from vistr_original import released_layout

from mmvis_plugin.apis.conversion import build_model, convert, fit
from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.models.vistr.released import VISTR
from mmvis_plugin.ytvis import categories

CONFIGS = Path(__file__).resolve().parents[2] / "configs/vistr"


@pytest.fixture
def run(run_converter):
    return partial(run_converter, "vistr")


def coco_layout(depth=50, num_queries=100, num_columns=92):
    """DETR of COCO with VisTR's width; the last convolutions are DETR's."""
    layout = released_layout(depth)
    for key in list(layout):
        if key.startswith(("insmask_head", "mask_head.dcn", "mask_head.conv_offset")):
            del layout[key]
    layout |= linear("mask_head.lay5", 24, 48, (3, 3)) | linear("mask_head.out_lay", 1, 24, (3, 3))
    layout["vistr.query_embed.weight"] = (num_queries, 384)
    return layout | linear("vistr.class_embed", num_columns, 384)


@pytest.mark.parametrize(
    ("depth", "num_frames", "config"),
    [
        (50, 36, "vistr_r50_ytvis19.py"),
        (101, 36, "vistr_r101_ytvis21.py"),
        (50, 18, "ablations/vistr_r50_t18_ytvis19.py"),
    ],
)
def test_every_released_weight_has_its_place(depth, num_frames, config):
    layout = released_layout(depth, num_frames)
    conversion = convert(VISTR, numbered(layout), "released.pth")
    assert not conversion.dropped and not conversion.is_start
    assert len(conversion.origins) == len(set(conversion.origins.values())) == len(layout)
    model = build_model(CONFIGS / config, VISTR.models)
    fit(VISTR, conversion, model, "released.pth", config)
    assert not conversion.fresh
    assert conversion.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("vistr.backbone.0.body.layer3.5.bn2.running_mean", "backbone.layer3.5.bn2.running_mean"),
        ("vistr.query_embed.weight", "queries.vectors.weight"),
        (
            "vistr.transformer.encoder.layers.5.linear2.weight",
            "encoder.5.ffn.layers.1.weight",
        ),
        ("vistr.transformer.encoder.layers.0.norm2.bias", "encoder.0.norms.1.bias"),
        (
            "vistr.transformer.decoder.layers.2.multihead_attn.out_proj.bias",
            "decoder.layers.2.cross_attn.attn.out_proj.bias",
        ),
        ("vistr.transformer.decoder.layers.2.norm3.weight", "decoder.layers.2.norms.2.weight"),
        ("vistr.transformer.decoder.norm.weight", "decoder.post_norm.weight"),
        ("vistr.bbox_embed.layers.2.bias", "box_head.layers.2.bias"),
        ("bbox_attention.k_linear.weight", "mask_head.attention.key.weight"),
        ("mask_head.lay1.weight", "mask_head.convs.0.weight"),
        ("mask_head.gn5.bias", "mask_head.last_norm.bias"),
        ("mask_head.adapter3.bias", "mask_head.laterals.2.bias"),
        ("mask_head.dcn.weight", "mask_head.last.weight"),
        ("insmask_head.9.weight", "mask_head.out.9.weight"),
    ],
)
def test_names(theirs, ours):
    source = numbered(released_layout())
    converted = convert(VISTR, source, "released.pth").state[f"network.{ours}"]
    assert torch.equal(converted, source[theirs])


def test_the_file_of_a_training(run, capsys):
    config = CONFIGS / "vistr_r50_ytvis21.py"
    file = dict(model=numbered(released_layout()), optimizer={}, epoch=17)
    written = run(file, "--config", config)
    assert written["meta"]["dataset_meta"]["classes"] == categories.YTVIS21
    assert "the model of VisTR" in capsys.readouterr().out
    build_model(config, VISTR.models).load_state_dict(written["state_dict"], strict=True)


def test_a_start_on_coco(run, capsys):
    config = CONFIGS / "vistr_r101_ytvis19.py"
    written = run(dict(model=numbered(coco_layout(101))), "--config", config)
    assert "a training start from VisTR" in capsys.readouterr().out
    model = build_model(config, VISTR.models)
    missing, unexpected = model.load_state_dict(written["state_dict"], strict=False)
    assert not unexpected
    anew = ("class_head.", "queries.", "mask_head.last.", "mask_head.out.")
    assert all(key.removeprefix("network.").startswith(anew) for key in missing)
    assert len({key.rpartition(".")[0] for key in missing}) == 11


def test_old_files_are_refused():
    layout = released_layout() | linear("vistr.class_embed", 41, 384)
    with pytest.raises(
        CheckpointError, match=r"r50\.pth is a file of VisTR from before 2021-04-23"
    ):
        convert(VISTR, numbered(layout), "r50.pth")


def test_another_number_of_frames_is_refused():
    config = "vistr_r50_ytvis19.py"
    model = build_model(CONFIGS / config, VISTR.models)
    conversion = convert(VISTR, numbered(released_layout(num_frames=24)), "t24.pth")
    with pytest.raises(CheckpointError, match=r"queries\.vectors\.weight is \(240, 384\)"):
        fit(VISTR, conversion, model, "t24.pth", config)
