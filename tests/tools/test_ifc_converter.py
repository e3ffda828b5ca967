"""IFC's released weights, and MMDetection's DETR, in our layout."""

from functools import partial
from pathlib import Path

import mmdet
import pytest
import torch
from ifc_original import released_layout
from mmdet.registry import MODELS
from mmengine.config import Config
from numbered_weights import numbered

from mmvis_plugin.apis.conversion import CheckpointError, build_model, convert, fit
from mmvis_plugin.models.ifc.released import DETR, IFC
from mmvis_plugin.ytvis import categories

DETR_CONFIG = Path(mmdet.__file__).parent / ".mim/configs/detr/detr_r50_8xb2-150e_coco.py"
CONFIGS = Path(__file__).resolve().parents[2] / "configs/ifc"


@pytest.fixture
def run(run_converter):
    return partial(run_converter, "ifc")


def converted(layout, config, base=IFC):
    conversion = convert(base, layout, "released.pth")
    model = build_model(CONFIGS / config, base.models)
    fit(base, conversion, model, "released.pth", config)
    return conversion, model


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        (released_layout(), "ifc_r50_t36_ytvis19.py"),
        (released_layout(101), "ifc_r101_ytvis19.py"),
        (released_layout(num_classes=25), "ifc_r50_ovis.py"),
        (released_layout(num_classes=80), "ifc_r50_coco.py"),
        (released_layout(num_memory=4), "ablations/ifc_r50_m4_ytvis19.py"),
    ],
    ids=["r50", "r101", "ovis", "coco", "m4"],
)
def test_every_released_weight_has_its_place(layout, config):
    conversion, model = converted(numbered(layout), config)
    assert list(conversion.dropped) == ["criterion.empty_weight"]
    assert len(conversion.origins) == len(set(conversion.origins.values())) == len(layout) - 1
    assert not conversion.fresh
    assert conversion.state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("detr.backbone.0.backbone.stem.conv1.norm.bias", "network.backbone.bn1.bias"),
        ("detr.backbone.0.backbone.res5.2.conv3.weight", "network.backbone.layer4.2.conv3.weight"),
        ("detr.transformer.memory_pos", "network.encoder.memory_position"),
        (
            "detr.transformer.encoder.bus_layers.2.norm2.bias",
            "network.encoder.time_layers.2.norms.1.bias",
        ),
        (
            "detr.transformer.encoder.enc_layers.0.self_attn.in_proj_bias",
            "network.encoder.frame_layers.0.self_attn.attn.in_proj_bias",
        ),
        (
            "detr.transformer.clip_decoder.layers.1.multihead_attn.out_proj.weight",
            "network.decoder.layers.1.cross_attn.attn.out_proj.weight",
        ),
        (
            "detr.transformer.clip_decoder.layers.1.linear2.bias",
            "network.decoder.layers.1.ffn.layers.1.bias",
        ),
        ("detr.class_embed.layers.1.bias", "network.class_head.layers.1.bias"),
        ("detr.mask_head.adapter2.weight", "network.mask_head.laterals.1.weight"),
        ("detr.mask_head.gn3.bias", "network.mask_head.norms.2.bias"),
        ("detr.mask_head.convert_to_weight.layers.2.bias", "network.mask_embed.layers.2.bias"),
    ],
)
def test_names(theirs, ours):
    source = numbered(released_layout())
    place = convert(IFC, source, "released.pth").state[ours]
    assert place.shape == source[theirs].shape
    assert place.flatten()[0] == source[theirs].flatten()[0]


def test_the_file_of_a_training(run, capsys):
    """As detectron2 writes it; written and loaded again."""
    config = CONFIGS / "ifc_r50_ytvis21.py"
    weights = numbered(released_layout())
    written = run(dict(model=weights, iteration=5999), "--config", config)
    assert written["meta"]["dataset_meta"]["classes"] == categories.YTVIS21
    assert "the model of IFC" in capsys.readouterr().out
    model = build_model(config, IFC.models)
    model.load_state_dict(written["state_dict"], strict=True)
    queries = model.network.query_embed.weight
    assert torch.equal(queries, weights["detr.query_embed.weight"])


def test_coco_weights_start_a_training_without_their_class_head():
    conversion, _ = converted(numbered(released_layout(num_classes=80)), "ifc_r50_ytvis19.py")
    dropped = {name for name in conversion.dropped if name.startswith("detr.")}
    assert dropped == {
        f"detr.class_embed.layers.{i}.{t}" for i in (0, 1) for t in ("weight", "bias")
    }
    assert all(name.startswith("network.class_head.") for name in conversion.fresh)


def test_weights_of_another_size_are_refused():
    with pytest.raises(CheckpointError, match="num|weights differ"):
        converted(numbered(released_layout(101)), "ifc_r50_ytvis19.py")
    with pytest.raises(CheckpointError, match="weights differ"):
        converted(numbered(released_layout()), "ablations/ifc_r50_no-communication_ytvis19.py")


def test_detr_starts_a_training():
    """Its first three layers of each kind; tokens, mask head and class head start anew."""
    detr = MODELS.build(Config.fromfile(DETR_CONFIG).model)
    weights = numbered({name: tuple(x.shape) for name, x in detr.state_dict().items()})
    conversion, model = converted(weights, "ifc_r50_ytvis19.py", DETR)
    layer = "layers.2.ffn.layers.0.0.weight"
    state = conversion.state
    assert torch.equal(state[f"network.encoder.frame_{layer}"], weights[f"encoder.{layer}"])
    assert torch.equal(state[f"network.decoder.{layer}"], weights[f"decoder.{layer}"])
    assert torch.equal(state["network.input_proj.bias"], weights["neck.convs.0.conv.bias"])
    assert any(name.startswith("encoder.layers.3.") for name in conversion.dropped)
    parts = {".".join(name.split(".")[:3]) for name in conversion.fresh}
    assert {"network.encoder.memory", "network.encoder.time_layers"} <= parts
    assert not [name for name in conversion.fresh if "frame_layers" in name or "backbone" in name]
    assert len(conversion.fresh) + len(state) == len(model.state_dict())
