"""The configs of MMDetection's released VIS models against MMDetection's own, key by key."""

import re
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from mmvis_plugin.apis.releases import find_release
from mmvis_plugin.config import find_config, load_config

THEIRS = Path(mmdet.__file__).parent / ".mim/configs"
CONFIGS = {
    f"masktrack_rcnn_{ours}_ytvis{year}": (
        f"masktrack_rcnn/masktrack-rcnn_mask-rcnn_{theirs}_fpn_8xb1-12e_youtubevis20{year}.py"
    )
    for ours, theirs in (("r50", "r50"), ("r101", "r101"), ("x101-64x4d", "x101"))
    for year in (19, 21)
} | {
    f"mask2former_vis_{ours}_ytvis21": (
        f"mask2former_vis/mask2former_{theirs}_8xb2-8e_youtubevis2021.py"
    )
    for ours, theirs in (("r50", "r50"), ("r101", "r101"), ("swin-l", "swin-l-p4-w12-384-in21k"))
}

# What differs on purpose, by a pattern of the key: ours and theirs.
STREAMS = {
    "StreamingMaskTrackRCNN": "MaskTrackRCNN",
    "StreamingMask2FormerVideo": "Mask2FormerVideo",
}
DIFFERENCES = {
    r"model\.type": STREAMS,
    r"model\.detector\.rpn_head\.type": {"AgnosticRPNHead": "RPNHead"},
    r".*roi_extractor\.type": {"Float32RoIExtractor": "SingleRoIExtractor"},
    r".*\.transforms\.0\.type": {"LoadFrame": "LoadImageFromFile"},
    r"train_cfg\.type": {"ResumableIterBasedTrainLoop": "IterBasedTrainLoop"},
}
# What only one of both has, or what is about data and validation: ours is in docs/datasets.md.
LEFT_OUT = [
    r"model\.(detector\.)?backbone\.init_cfg.*",  # overwritten by the weights of the whole model
    r"model\.windows\..*",  # MMDetection takes videos of any length whole
    r"train_cfg\.val_.*",
    r".*\.(backend_args|dataset_version|filter_key_img)",
    r"(train|test)_dataloader\.(sampler|batch_sampler|dataset)\.(?!pipeline).*",
    # Our test pipeline does not read annotations, which the official test sets do not have.
    r"test_dataloader\.dataset\.pipeline\.0\.transforms\.2\..*",
]
PARTS = (
    "model",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "train_dataloader",
    "test_dataloader",
)


def flat(node, name):
    """Every value of a nested config by its dotted name, without what is left out."""
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if isinstance(node, dict) and node:
        parts = (flat(value, f"{name}.{key}") for key, value in node.items())
        return {key: value for part in parts for key, value in part.items()}
    return {} if any(re.fullmatch(pattern, name) for pattern in LEFT_OUT) else {name: node}


def settings(cfg):
    found = {}
    for part in PARTS:
        node = cfg[part]
        if part == "param_scheduler" and isinstance(node, dict):  # one may stand without a list
            node = [node]
        found |= flat(node, part)
    # One line of MMDetection's packages names a mirror.
    host = r"https://(download\.openmmlab\.com|mmassets\.onedl\.ai)/"
    return {k: re.sub(host, "", v) if isinstance(v, str) else v for k, v in found.items()}


def in_their_terms(key, value):
    pattern = next((p for p in DIFFERENCES if re.fullmatch(p, key)), None)
    return DIFFERENCES[pattern].get(value, value) if pattern else value


@pytest.mark.parametrize("name", CONFIGS)
def test_config_equals_mmdetections(name):
    ours = settings(load_config(name))
    theirs = settings(Config.fromfile(THEIRS / CONFIGS[name]))
    assert {key: in_their_terms(key, value) for key, value in ours.items()} == theirs


@pytest.mark.parametrize("folder", ["masktrack_rcnn", "mask2former_vis"])
def test_every_file_that_mmdetection_released_has_its_config(folder):
    own = {CONFIGS[name]: find_release(find_config(name)) for name in CONFIGS}
    listed = Config.fromfile(THEIRS / folder / "metafile.yml").Models
    assert listed
    for model in listed:
        release = own[model.Config.removeprefix("configs/")]
        assert release.addresses[0] == model.Weights.replace(
            "mmassets.onedl.ai", "download.openmmlab.com"
        )
        assert release.ap == model.Results[0].Metrics.AP
