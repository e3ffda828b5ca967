"""MinVIS in its authors' layout, detectron2's, which is also that of their Mask2Former."""

from mmvis_plugin.ytvis.categories import OVIS, YTVIS19, YTVIS21

from ..code_base import (
    CodeBase,
    detectron2_resnet_renames,
    swin_renames,
    with_reordered_patches,
)

WB = r"(weight|bias)"
MHA = r"((?:in|out)_proj.+)"
PIXEL_DECODER, PREDICTOR = r"sem_seg_head\.pixel_decoder\.", r"sem_seg_head\.predictor\."
ENCODER = rf"{PIXEL_DECODER}transformer\.encoder\.layers\.(\d+)\."
OUR_PIXEL_DECODER = "panoptic_head.pixel_decoder."
OUR_ENCODER = rf"{OUR_PIXEL_DECODER}encoder.layers.\1."
OUR_DECODER = r"panoptic_head.transformer_decoder.layers.\1."

MINVIS = CodeBase(
    title="MinVIS",
    models=("MinVIS",),
    required=(
        "sem_seg_head.pixel_decoder.mask_features.weight",
        "sem_seg_head.predictor.decoder_norm.weight",
        "sem_seg_head.predictor.class_embed.weight",
    ),
    renames=[
        *detectron2_resnet_renames(r"backbone\.", "backbone."),
        *swin_renames(r"backbone\.", "backbone."),
        (rf"backbone\.(norm\d\.{WB})", r"backbone.\1"),
        (
            rf"{PIXEL_DECODER}input_proj\.(\d)\.0\.{WB}",
            rf"{OUR_PIXEL_DECODER}input_convs.\1.conv.\2",
        ),
        (
            rf"{PIXEL_DECODER}input_proj\.(\d)\.1\.{WB}",
            rf"{OUR_PIXEL_DECODER}input_convs.\1.gn.\2",
        ),
        (rf"{PIXEL_DECODER}transformer\.level_embed", f"{OUR_PIXEL_DECODER}level_encoding.weight"),
        (rf"{ENCODER}(self_attn\..+)", rf"{OUR_ENCODER}\2"),
        (rf"{ENCODER}norm([12])\.{WB}", rf"{OUR_ENCODER}norms.<\2-1>.\3"),
        (rf"{ENCODER}linear1\.{WB}", rf"{OUR_ENCODER}ffn.layers.0.0.\2"),
        (rf"{ENCODER}linear2\.{WB}", rf"{OUR_ENCODER}ffn.layers.1.\2"),
        (rf"{PIXEL_DECODER}adapter_1\.weight", f"{OUR_PIXEL_DECODER}lateral_convs.0.conv.weight"),
        (rf"{PIXEL_DECODER}adapter_1\.norm\.{WB}", rf"{OUR_PIXEL_DECODER}lateral_convs.0.gn.\1"),
        (rf"{PIXEL_DECODER}layer_1\.weight", f"{OUR_PIXEL_DECODER}output_convs.0.conv.weight"),
        (rf"{PIXEL_DECODER}layer_1\.norm\.{WB}", rf"{OUR_PIXEL_DECODER}output_convs.0.gn.\1"),
        (rf"{PIXEL_DECODER}mask_features\.{WB}", rf"{OUR_PIXEL_DECODER}mask_feature.\1"),
        (
            rf"{PREDICTOR}transformer_cross_attention_layers\.(\d+)\.multihead_attn\.{MHA}",
            rf"{OUR_DECODER}cross_attn.attn.\2",
        ),
        (
            rf"{PREDICTOR}transformer_cross_attention_layers\.(\d+)\.norm\.{WB}",
            rf"{OUR_DECODER}norms.0.\2",
        ),
        (
            rf"{PREDICTOR}transformer_self_attention_layers\.(\d+)\.self_attn\.{MHA}",
            rf"{OUR_DECODER}self_attn.attn.\2",
        ),
        (
            rf"{PREDICTOR}transformer_self_attention_layers\.(\d+)\.norm\.{WB}",
            rf"{OUR_DECODER}norms.1.\2",
        ),
        (
            rf"{PREDICTOR}transformer_ffn_layers\.(\d+)\.linear1\.{WB}",
            rf"{OUR_DECODER}ffn.layers.0.0.\2",
        ),
        (
            rf"{PREDICTOR}transformer_ffn_layers\.(\d+)\.linear2\.{WB}",
            rf"{OUR_DECODER}ffn.layers.1.\2",
        ),
        (
            rf"{PREDICTOR}transformer_ffn_layers\.(\d+)\.norm\.{WB}",
            rf"{OUR_DECODER}norms.2.\2",
        ),
        (rf"{PREDICTOR}decoder_norm\.{WB}", r"panoptic_head.transformer_decoder.post_norm.\1"),
        (rf"{PREDICTOR}(query_embed|level_embed)\.weight", r"panoptic_head.\1.weight"),
        # The second name is an older one.
        (rf"{PREDICTOR}(?:query_feat|static_query)\.weight", "panoptic_head.query_feat.weight"),
        (rf"{PREDICTOR}class_embed\.{WB}", r"panoptic_head.cls_embed.\1"),
        (rf"{PREDICTOR}mask_embed\.layers\.(\d)\.{WB}", r"panoptic_head.mask_embed.<\1+\1>.\2"),
    ],
    drops=[(r"criterion\.empty_weight", "the classes' weights in the loss, which are a setting")],
    is_start=lambda source: False,
    # Swin's index of relative positions, which follows from the size of its windows.
    optional=r".+\.relative_position_index",
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21, "ovis": OVIS},
    class_bias=r"panoptic_head\.cls_embed\.bias",
    other_logits=(1,),  # no object
    prepare=with_reordered_patches,
)
