"""The authors' STMask, and YOLACT++ as a training start.

Released STMask models give what they gave in the authors' code. Models trained on COCO (YOLACT++,
and the authors' own with feature calibration) start a training: they lack temporal fusion, and
their classes are others.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from mmvis_plugin.ytvis.categories import OVIS, YTVIS19, YTVIS21

from ..code_base import CodeBase, Conversion
from .detector import STMaskDetector

_HEAD = r"prediction_layers\.0"
_CONV = r"(weight|bias)"
_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"


def _branch_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    """How the weights of a branch of the head are renamed."""
    layer, preds = rf"{_HEAD}\.{theirs}_layer\.(\d)", rf"detector.bbox_head.{ours}_preds.\1"
    tower = rf"detector.bbox_head.{ours}_convs.<\1/2>.conv.\2"
    return [
        (rf"{_HEAD}\.{theirs}_extra\.([02])\.{_CONV}", tower),
        (rf"{layer}\.{_CONV}", rf"{preds}.\2"),
        # Layers that are calibrated for boxes:
        (rf"{layer}\.conv_offset\.weight", rf"{preds}.conv_offset.weight"),
        (rf"{layer}\.conv_adaption\.weight", rf"{preds}.conv_adapt.weight"),
        (rf"{layer}\.conv\.{_CONV}", rf"{preds}.conv_pred.\2"),
    ]


def adapt(conversion: Conversion, model: nn.Module) -> bool:
    """Lay weights out for a model; see :class:`CodeBase`.

    An ``STMaskDetector`` has no prefix in its keys, and an image model of the same calibration must
    fit it as it is. YOLACT++, which has one layer for all anchors, is a start for it, too.
    """
    is_image_model = isinstance(model, STMaskDetector)
    if is_image_model:
        for ours in [ours for ours in conversion.state if ours.startswith("temporal_fusion.")]:
            conversion.drop(ours, "temporal fusion, which an image model does not have")
        conversion.state, conversion.origins = (
            {ours.removeprefix("detector."): value for ours, value in mapping.items()}
            for mapping in (conversion.state, conversion.origins)
        )
    if conversion.is_start:
        make_blocks_plain(conversion, model.state_dict())
    layer = re.compile(rf"{_HEAD}\.conf_layer\.0\.")
    return is_image_model and any(map(layer.match, conversion.origins.values()))


def make_blocks_plain(conversion: Conversion, wanted: Mapping[str, Tensor]) -> None:
    """Turn the deformable blocks of a training start that are plain in the model into plain ones.

    All blocks of the last three stages are deformable in YOLACT++ R-50, every second in STMask. The
    normalisation after such a block expects inputs that were weakened by masks, about one half:
    the taps of the kernel are weighed by the masks that their biases alone give. The bias of the
    convolution, which a plain block has not, moves into the running mean of the normalisation.

    Args:
        conversion: Changed in place.
        wanted: The model's weights.
    """
    state = conversion.state
    for masks_bias in [key for key in state if key.endswith(".conv2.conv_offset.bias")]:
        conv = masks_bias.removesuffix(".conv_offset.bias")
        offset, kernel, bias = f"{conv}.conv_offset.weight", f"{conv}.weight", f"{conv}.bias"
        mean = f"{conv.removesuffix('conv2')}bn2.running_mean"
        if masks_bias in wanted or not {offset, kernel, bias, mean} <= state.keys():
            continue
        masks = state[masks_bias].chunk(3)[2].sigmoid()  # after the offsets in y and in x
        state[kernel] = state[kernel] * masks.view(state[kernel].shape[2:])
        for ours in (masks_bias, offset):
            conversion.drop(ours, "a plain block here; its kernel takes over the masks' biases")
        # (x + b) - mean = x - (mean - b)
        state[mean] = state[mean] - state.pop(bias)
        conversion.merged[conversion.origins.pop(bias)] = "folded into the batch normalisation"


STMASK = CodeBase(
    title="STMask or YOLACT++",
    models=("STMask", "STMaskDetector"),
    required=(
        "backbone.conv1.weight",
        "backbone.layers.0.0.conv1.weight",
        "fpn.lat_layers.0.weight",
        "proto_net.0.weight",
        "prediction_layers.0.upfeature.0.weight",
    ),
    renames=[
        (rf"backbone\.(conv1\.weight|bn1\.{_NORM})", r"detector.backbone.\1"),
        (
            rf"backbone\.layers\.(\d)\.(\d+\.(?:conv\d\.weight|(?:bn|downsample\.)\d\.{_NORM}))",
            r"detector.backbone.layer<\1+1>.\2",
        ),
        (
            r"backbone\.layers\.(\d)\.(\d+\.conv2\.bias)",  # of deformable convolutions
            r"detector.backbone.layer<\1+1>.\2",
        ),
        (
            rf"backbone\.layers\.(\d)\.(\d+)\.conv2\.conv_offset_mask\.{_CONV}",
            r"detector.backbone.layer<\1+1>.\2.conv2.conv_offset.\3",
        ),
        # The authors count the backbone's levels from the coarsest one.
        (rf"fpn\.lat_layers\.([0-2])\.{_CONV}", r"detector.neck.lateral_convs.<2-\1>.conv.\2"),
        (rf"fpn\.pred_layers\.([0-2])\.{_CONV}", r"detector.neck.fpn_convs.<2-\1>.conv.\2"),
        (rf"fpn\.downsample_layers\.([01])\.{_CONV}", r"detector.neck.fpn_convs.<3+\1>.conv.\2"),
        (rf"proto_net\.(\d+)\.{_CONV}", r"detector.mask_head.protonet.\1.\2"),
        (rf"{_HEAD}\.upfeature\.0\.{_CONV}", r"detector.bbox_head.shared_conv.conv.\1"),
        (
            rf"{_HEAD}\.centerness_layer\.(\d)\.{_CONV}",
            r"detector.bbox_head.centerness_preds.\1.\2",
        ),
        *_branch_rules("bbox", "reg"),
        *_branch_rules("conf", "cls"),
        *_branch_rules("mask", "mask"),
        *_branch_rules("track", "track"),
        (rf"TemporalNet\.conv([1-3])\.{_CONV}", r"temporal_fusion.convs.<\1-1>.conv.\2"),
        (rf"TemporalNet\.fc\.{_CONV}", r"temporal_fusion.fc_box.\1"),
        (rf"TemporalNet\.fc_coeff\.{_CONV}", r"temporal_fusion.fc_coeff.\1"),
    ],
    drops=[
        (r"backbone\.layer\d\..+", "the same as backbone.layers, under its older name"),
        (r"fpn\.downsample_layers\.[2-9]\..+", "a level beyond P7"),
        (r"maskiou_net\..+", "mask re-scoring of YOLACT++; STMask scores with the centerness"),
        (r"semantic_seg_conv\..+", "semantic branch of YOLACT++; STMask trains without"),
        (r"class_existence_fc\..+", "class existence branch of YOLACT; STMask trains without"),
        (
            rf"{_HEAD}\.(bbox|conf|mask)_layer\.(weight|bias)",
            "predicts for all anchors of YOLACT++ at once; STMask has a layer for each of its own",
        ),
    ],
    is_start=lambda source: not any(key.startswith("TemporalNet.") for key in source),
    trained_anew=(
        r"temporal_fusion\.|(detector\.)?bbox_head\.\w+_(convs|preds)\.|.+\.conv2\.conv_offset\."
    ),
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21, "ovis": OVIS},
    class_bias=r"detector\.bbox_head\.cls_preds\.0\.(conv_pred\.)?bias",
    other_logits=(1,),  # the background
    adapt=adapt,
)
