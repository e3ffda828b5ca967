"""IFC in its authors' layout, detectron2's, and MMDetection's DETR as a training start."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvis_plugin.ytvis.categories import OVIS, YTVIS19, YTVIS21

from ..code_base import CodeBase, Conversion, detectron2_resnet_renames

WB = r"(weight|bias)"
MHA = r"((?:in|out)_proj.+)"
COCO_LOGITS = 81
THEIR_BUS = r"detr\.transformer\.encoder\.bus_layers\.(\d+)\."
THEIR_FRAMES = r"detr\.transformer\.encoder\.enc_layers\.(\d+)\."
THEIR_DECODER = r"detr\.transformer\.clip_decoder\.layers\.(\d+)\."
OUR_BUS, OUR_FRAMES = r"network.encoder.time_layers.\1.", r"network.encoder.frame_layers.\1."
OUR_DECODER = r"network.decoder.layers.\1."
OTHER_ENCODER, OTHER_DECODER = r"encoder\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\."


def _layer_renames(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Of what encoder and decoder layers of DETR have in common."""
    return [
        (rf"{theirs}self_attn\.{MHA}", rf"{ours}self_attn.attn.\2"),
        (rf"{theirs}linear1\.{WB}", rf"{ours}ffn.layers.0.0.\2"),
        (rf"{theirs}linear2\.{WB}", rf"{ours}ffn.layers.1.\2"),
        (rf"{theirs}norm([1-3])\.{WB}", rf"{ours}norms.<\2-1>.\3"),
    ]


def _is_of_coco(source: Mapping[str, Tensor]) -> bool:
    return len(source["detr.class_embed.layers.1.bias"]) == COCO_LOGITS


def _without_other_classes(conversion: Conversion, model: nn.Module) -> bool:
    """Drop a class head of other classes as a whole: all of it starts anew, as the authors advise.

    Returns:
        bool: False, see :class:`CodeBase`.
    """
    logits = len(conversion.state["network.class_head.layers.1.bias"])
    if conversion.is_start and logits != model.network.num_classes + 1:
        for key in [key for key in conversion.state if key.startswith("network.class_head.")]:
            conversion.drop(key, "scores of COCO's classes")
    return False


IFC = CodeBase(
    title="IFC",
    models=("IFC", "IFCDetector"),
    required=(
        "detr.transformer.memory_bus",
        "detr.transformer.encoder.bus_layers.0.linear1.weight",
        "detr.mask_head.convert_to_weight.layers.0.weight",
        "detr.class_embed.layers.1.bias",
    ),
    renames=[
        *detectron2_resnet_renames(r"detr\.backbone\.0\.backbone\.", "network.backbone."),
        (rf"detr\.input_proj\.{WB}", r"network.input_proj.\1"),
        (r"detr\.transformer\.memory_bus", "network.encoder.memory"),
        (r"detr\.transformer\.memory_pos", "network.encoder.memory_position"),
        *_layer_renames(THEIR_FRAMES, OUR_FRAMES),
        *_layer_renames(THEIR_BUS, OUR_BUS),
        *_layer_renames(THEIR_DECODER, OUR_DECODER),
        (rf"{THEIR_DECODER}multihead_attn\.{MHA}", rf"{OUR_DECODER}cross_attn.attn.\2"),
        (rf"detr\.transformer\.clip_decoder\.norm\.{WB}", r"network.decoder.post_norm.\1"),
        (r"detr\.query_embed\.weight", "network.query_embed.weight"),
        (rf"detr\.class_embed\.(layers\.\d\.{WB})", r"network.class_head.\1"),
        (rf"detr\.mask_head\.convert_to_weight\.(layers\.\d\.{WB})", r"network.mask_embed.\1"),
        (rf"detr\.mask_head\.lay(\d)\.{WB}", r"network.mask_head.convs.<\1-1>.\2"),
        (rf"detr\.mask_head\.gn(\d)\.{WB}", r"network.mask_head.norms.<\1-1>.\2"),
        (rf"detr\.mask_head\.adapter(\d)\.{WB}", r"network.mask_head.laterals.<\1-1>.\2"),
        (rf"detr\.mask_head\.out_lay\.((?:depth|point)wise\.{WB})", r"network.mask_head.\1"),
    ],
    drops=[(r"criterion\.empty_weight", "the classes' weights in the loss, which are a setting")],
    is_start=_is_of_coco,
    trained_anew=r"network\.class_head\.",
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21, "ovis": OVIS},
    class_bias=r"network\.class_head\.layers\.1\.bias",
    other_logits=(1,),  # no object
    adapt=_without_other_classes,
)
# Its first layers, as many as ours has, become those of the frames and of the decoder; what DETR
# has nothing for starts anew. Our reading: the paper trains on COCO itself.
DETR = CodeBase(
    title="MMDetection's DETR",
    models=("IFC", "IFCDetector"),
    required=(
        "encoder.layers.0.self_attn.attn.in_proj_weight",
        "decoder.layers.0.cross_attn.attn.in_proj_weight",
        "query_embedding.weight",
        "neck.convs.0.conv.weight",
    ),
    renames=[
        (r"backbone\.(.+)", r"network.backbone.\1"),
        (rf"neck\.convs\.0\.conv\.{WB}", r"network.input_proj.\1"),
        (rf"{OTHER_ENCODER}(.+)", r"network.encoder.frame_layers.\1.\2"),
        (rf"{OTHER_DECODER}(.+)", r"network.decoder.layers.\1.\2"),
        (rf"decoder\.post_norm\.{WB}", r"network.decoder.post_norm.\1"),
        (r"query_embedding\.weight", "network.query_embed.weight"),
    ],
    drops=[(r"bbox_head\..+", "boxes and scores of COCO's classes")],
    is_start=lambda source: True,
    trained_anew=(
        r"network\.(class_head|mask_head|mask_embed)\."
        r"|network\.encoder\.(memory|memory_position|time_layers)\b"
    ),
)
