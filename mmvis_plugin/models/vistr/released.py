"""VisTR in its authors' layout: released models, and their DETR of COCO that VisTR starts from."""

from collections.abc import Mapping

from torch import Tensor

from mmvis_plugin.checkpoint import CheckpointError
from mmvis_plugin.ytvis.categories import YTVIS19, YTVIS21

from ..code_base import CodeBase, Prepared

WB = r"(weight|bias)"
MHA = r"((?:in|out)_proj.+)"
ENCODER = r"vistr\.transformer\.encoder\.layers\.(\d+)\."
DECODER = r"vistr\.transformer\.decoder\.layers\.(\d+)\."
OUR_ENCODER, OUR_DECODER = r"network.encoder.\1.", r"network.decoder.layers.\1."
CLASS_BIAS = "vistr.class_embed.bias"
# Of the first files: absence and 40 classes, of which the last one was also "no object".
OLD_LOGITS = 41


def _layer_renames(theirs: str, ours: str) -> list[tuple[str, str]]:
    """Of what encoder and decoder layers have in common."""
    return [
        (rf"{theirs}self_attn\.{MHA}", rf"{ours}self_attn.attn.\2"),
        (rf"{theirs}linear1\.{WB}", rf"{ours}ffn.layers.0.0.\2"),
        (rf"{theirs}linear2\.{WB}", rf"{ours}ffn.layers.1.\2"),
        (rf"{theirs}norm([1-3])\.{WB}", rf"{ours}norms.<\2-1>.\3"),
    ]


def _is_of_coco(source: Mapping[str, Tensor]) -> bool:
    return "insmask_head.0.weight" not in source


def _check_age(source: Mapping[str, Tensor], name: str) -> Prepared:
    if not _is_of_coco(source) and len(source[CLASS_BIAS]) == OLD_LOGITS:
        raise CheckpointError(
            f"{name} is a file of VisTR from before 2021-04-23: it has {OLD_LOGITS} class logits, "
            "the last of which stands for a class and for no object at once. Download the "
            "authors' newer file, which has 42."
        )
    return dict(source), {}


VISTR = CodeBase(
    title="VisTR",
    models=("VisTR",),
    required=(
        "vistr.transformer.encoder.layers.0.self_attn.in_proj_weight",
        "vistr.transformer.decoder.norm.weight",
        CLASS_BIAS,
        "bbox_attention.q_linear.weight",
        "mask_head.lay4.weight",
    ),
    renames=[
        (
            r"vistr\.backbone\.0\.body\.((?:conv|bn)1\.\w+|layer\d\.\d+\..+)",
            r"network.backbone.\1",
        ),
        (rf"vistr\.input_proj\.{WB}", r"network.input_proj.\1"),
        *_layer_renames(ENCODER, OUR_ENCODER),
        *_layer_renames(DECODER, OUR_DECODER),
        (rf"{DECODER}multihead_attn\.{MHA}", rf"{OUR_DECODER}cross_attn.attn.\2"),
        (rf"vistr\.transformer\.decoder\.norm\.{WB}", r"network.decoder.post_norm.\1"),
        (r"vistr\.query_embed\.weight", "network.queries.vectors.weight"),
        (rf"vistr\.class_embed\.{WB}", r"network.class_head.\1"),
        (rf"vistr\.bbox_embed\.(layers\.\d\.{WB})", r"network.box_head.\1"),
        (rf"bbox_attention\.q_linear\.{WB}", r"network.mask_head.attention.query.\1"),
        (rf"bbox_attention\.k_linear\.{WB}", r"network.mask_head.attention.key.\1"),
        (rf"mask_head\.lay([1-4])\.{WB}", r"network.mask_head.convs.<\1-1>.\2"),
        (rf"mask_head\.gn([1-4])\.{WB}", r"network.mask_head.norms.<\1-1>.\2"),
        (rf"mask_head\.gn5\.{WB}", r"network.mask_head.last_norm.\1"),
        (rf"mask_head\.adapter([1-3])\.{WB}", r"network.mask_head.laterals.<\1-1>.\2"),
        (rf"mask_head\.conv_offset\.{WB}", r"network.mask_head.last.conv_offset.\1"),
        (r"mask_head\.dcn\.weight", "network.mask_head.last.weight"),
        (rf"insmask_head\.(\d)\.{WB}", r"network.mask_head.out.\1.\2"),
    ],
    drops=[(r"mask_head\.(lay5|out_lay)\..+", "DETR's last convolutions, which VisTR replaces")],
    is_start=_is_of_coco,
    # What DETR has for other classes or other queries, and what it has not.
    trained_anew=r"network\.(class_head|queries)\.|network\.mask_head\.(last|out)\.",
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21},
    class_bias=r"network\.class_head\.bias",
    other_logits=(2,),  # absence and no object
    prepare=_check_age,
)
