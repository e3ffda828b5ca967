"""MMDetection's QueryInst and Sparse R-CNN, whose weights start an EfficientVIS."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..code_base import CodeBase, Prepared

_STAGE = r"tracklet_head.stages.\1."
_MASK_NORM = re.compile(r"(roi_head\.mask_head\.\d+\.convs\.\d+)\.bn\.running_var")
_NORM_EPS = 1e-5  # of MMDetection's batch normalisation


def fold_mask_norms(source: Mapping[str, Tensor], name: str) -> Prepared:
    """Merge the mask heads' batch normalisations into the convolutions in front of them.

    Ours have none, since most RoIs show nothing and would shift the statistics. At test time this
    changes nothing.
    """
    weights, merged = dict(source), {}
    for layer in [match[1] for key in source if (match := _MASK_NORM.fullmatch(key))]:
        norm = {key: value for key, value in source.items() if key.startswith(f"{layer}.bn.")}
        weight, bias, mean, variance = (
            norm[f"{layer}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / torch.sqrt(variance + _NORM_EPS)
        weights[f"{layer}.conv.weight"] = (
            source[f"{layer}.conv.weight"] * scale[:, None, None, None]
        )
        weights[f"{layer}.conv.bias"] = bias - mean * scale
        merged |= dict.fromkeys(norm, "normalisation of a mask head, in its convolution")
    return {key: value for key, value in weights.items() if key not in merged}, merged


QUERYINST = CodeBase(
    title="MMDetection's QueryInst or Sparse R-CNN",
    models=("EfficientVIS",),
    required=(
        "backbone.conv1.weight",
        "neck.fpn_convs.0.conv.weight",
        "roi_head.bbox_head.0.instance_interactive_conv.dynamic_layer.weight",
    ),
    renames=[
        (r"(backbone|neck)\..+", r"\g<0>"),
        (r"roi_head\.bbox_head\.(\d+)\.(?!fc_cls)(.+)", _STAGE + r"\2"),
        (
            r"roi_head\.mask_head\.(\d+)\.(convs\.\d+\.conv\..+|upsample\..+)",
            _STAGE + r"mask_head.\2",
        ),
        (r"rpn_head\.(init_proposal_(?:bboxes|features)\.weight)", r"tracklet_head.tracklets.\1"),
    ],
    drops=[
        (r"roi_head\.bbox_head\.\d+\.fc_cls\..+", "scores of COCO's classes, without background"),
        (r"roi_head\.mask_head\.\d+\.conv_logits\..+", "a mask for each of COCO's classes"),
        (
            r"roi_head\.mask_head\.\d+\.instance_interactive_conv\..+",
            "masks come from the same dynamic convolution as boxes here",
        ),
    ],
    is_start=lambda source: True,
    trained_anew=r"(?!backbone\.|neck\.)",
    needs_config=True,
    prepare=fold_mask_norms,
)
