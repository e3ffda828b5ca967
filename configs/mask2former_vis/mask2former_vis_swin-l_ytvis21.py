# Mask2Former-VIS Swin-L on YouTube-VIS 2021, with MMDetection's settings.
_base_ = "./mask2former_vis_r50_ytvis21.py"

_depths = [2, 2, 18, 2]
model = dict(
    backbone=dict(
        _delete_=True,
        type="SwinTransformer",
        pretrain_img_size=384,
        embed_dims=192,
        depths=_depths,
        num_heads=[6, 12, 24, 48],
        window_size=12,
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.3,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        with_cp=False,
        convert_weights=True,
        frozen_stages=-1,
        init_cfg=None,
    ),
    track_head=dict(in_channels=[192, 384, 768, 1536], num_queries=200),
    init_cfg=dict(
        checkpoint="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
        "mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic/"
        "mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic_"
        "20220407_104949-82f8d28d.pth",
    ),
)

# The backbone at a tenth of the rate, norms and embeddings without weight decay.
_norm = dict(lr_mult=0.1, decay_mult=0.0)
_blocks = [(stage, block) for stage, depth in enumerate(_depths) for block in range(depth)]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "backbone.patch_embed.norm": _norm,
            "backbone.norm": _norm,
            "absolute_pos_embed": _norm,
            "relative_position_bias_table": _norm,
            **{f"backbone.stages.{s}.blocks.{b}.norm": _norm for s, b in _blocks},
            **{f"backbone.stages.{s}.downsample.norm": _norm for s in range(len(_depths) - 1)},
        },
    )
)
