"""MinVIS's released weights in our layout."""

from functools import partial
from pathlib import Path

import pytest
import torch
from minvis_original import released_layout
from numbered_weights import numbered
from seqformer_original import Swin

from mmvis_plugin.apis.conversion import build_model, convert, fit
from mmvis_plugin.models.minvis.released import MINVIS
from mmvis_plugin.ytvis import categories

CONFIGS = Path(__file__).resolve().parents[2] / "configs/minvis"


@pytest.fixture
def run(run_converter):
    return partial(run_converter, "minvis")


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        (released_layout(), "minvis_r50_ytvis21.py"),
        (released_layout(Swin(), num_classes=25, num_queries=200), "minvis_swin-l_ovis.py"),
    ],
    ids=["r50", "swin-l"],
)
def test_every_released_weight_has_its_place(layout, config):
    conversion = convert(MINVIS, numbered(layout), "released.pth")
    assert list(conversion.dropped) == ["criterion.empty_weight"]
    assert len(conversion.origins) == len(set(conversion.origins.values())) == len(layout) - 1
    model = build_model(CONFIGS / config, MINVIS.models)
    fit(MINVIS, conversion, model, "released.pth", config)
    assert not conversion.fresh
    assert conversion.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.stem.conv1.norm.running_var", "backbone.bn1.running_var"),
        ("backbone.res2.0.shortcut.norm.bias", "backbone.layer1.0.downsample.1.bias"),
        ("backbone.res5.2.conv3.weight", "backbone.layer4.2.conv3.weight"),
        ("backbone.res4.5.conv2.norm.weight", "backbone.layer3.5.bn2.weight"),
        (
            "sem_seg_head.pixel_decoder.input_proj.0.1.weight",
            "panoptic_head.pixel_decoder.input_convs.0.gn.weight",
        ),
        (
            "sem_seg_head.pixel_decoder.transformer.encoder.layers.5.norm2.bias",
            "panoptic_head.pixel_decoder.encoder.layers.5.norms.1.bias",
        ),
        (
            "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1.weight",
            "panoptic_head.pixel_decoder.encoder.layers.0.ffn.layers.0.0.weight",
        ),
        (
            "sem_seg_head.pixel_decoder.adapter_1.norm.bias",
            "panoptic_head.pixel_decoder.lateral_convs.0.gn.bias",
        ),
        (
            "sem_seg_head.predictor.transformer_cross_attention_layers.8.norm.weight",
            "panoptic_head.transformer_decoder.layers.8.norms.0.weight",
        ),
        (
            "sem_seg_head.predictor.transformer_self_attention_layers.8.self_attn.in_proj_bias",
            "panoptic_head.transformer_decoder.layers.8.self_attn.attn.in_proj_bias",
        ),
        (
            "sem_seg_head.predictor.transformer_ffn_layers.3.norm.weight",
            "panoptic_head.transformer_decoder.layers.3.norms.2.weight",
        ),
        ("sem_seg_head.predictor.level_embed.weight", "panoptic_head.level_embed.weight"),
        ("sem_seg_head.predictor.mask_embed.layers.2.bias", "panoptic_head.mask_embed.4.bias"),
    ],
)
def test_names(theirs, ours):
    source = numbered(released_layout())
    converted = convert(MINVIS, source, "released.pth").state[ours]
    assert converted.shape == source[theirs].shape
    assert converted.flatten()[0] == source[theirs].flatten()[0]


def test_the_file_of_a_training(run, capsys):
    """As detectron2 writes it, with the older name of a query; written and loaded again."""
    weights = numbered(released_layout())
    old = "sem_seg_head.predictor.{}.weight".format
    weights[old("static_query")] = weights.pop(old("query_feat"))
    config = CONFIGS / "minvis_r50_ytvis21.py"
    written = run(dict(model=weights, iteration=5999), "--config", config)
    assert written["meta"]["dataset_meta"]["classes"] == categories.YTVIS21
    assert "the model of MinVIS" in capsys.readouterr().out
    model = build_model(config, MINVIS.models)
    model.load_state_dict(written["state_dict"], strict=True)
    queries = model.panoptic_head.query_feat.weight
    assert torch.equal(queries, weights[old("static_query")])
