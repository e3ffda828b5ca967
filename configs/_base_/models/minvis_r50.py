# MinVIS R-50 for the 40 classes of YouTube-VIS: Mask2Former's image model. Its parts are those of
# Mask2Former-VIS, which attends to all frames at once.
_base_ = "./mask2former_vis_r50.py"

_head = _base_.model.track_head
del _head["num_frames"], _head["positional_encoding"]["type"]
model = dict(
    _delete_=True,
    type="MinVIS",
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone,
    panoptic_head=dict(_head, type="MinVISHead"),
    max_tracks=10,
    max_candidates=30,
)

# Swin-L with 200 queries. MMDetection has published its COCO weights of panoptic segmentation only.
_depths = (2, 2, 18, 2)
_swin_l = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
        "mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic/"
        "mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_20220407_104949-82f8d28d.pth",
    ),
    backbone=dict(
        _delete_=True,
        type="SwinTransformer",
        pretrain_img_size=384,
        embed_dims=192,
        depths=_depths,
        num_heads=(6, 12, 24, 48),
        window_size=12,
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
    ),
    panoptic_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
)
# No weight decay of its normalisations and of its encoding of positions.
_undecayed = dict(lr_mult=0.1, decay_mult=0.0)
_swin_l_custom_keys = {
    "backbone.patch_embed.norm": _undecayed,
    "backbone.norm": _undecayed,
    "relative_position_bias_table": _undecayed,
}
for _stage, _depth in enumerate(_depths):
    _swin_l_custom_keys[f"backbone.stages.{_stage}.downsample.norm"] = _undecayed
    for _block in range(_depth):
        _swin_l_custom_keys[f"backbone.stages.{_stage}.blocks.{_block}.norm"] = _undecayed
