# Mask2Former-VIS on ShapesVIS: a quarter of the width, 20 queries, 3 encoder and 3 decoder layers.
# Only the backbone starts from trained weights, those of the shapes detector; where the paper's
# model is fine-tuned from COCO, transformer and heads start at random here, so that the method
# wants more iterations than the two-stage methods beside it.
_base_ = [
    "../_base_/models/mask2former_vis_r50.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_num_classes = 6
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        norm_cfg=dict(requires_grad=True),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth",
            prefix="backbone.",
        ),
    ),
    track_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        out_channels=64,
        num_classes=_num_classes,
        num_queries=20,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=16),
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=64),
                    ffn_cfg=dict(embed_dims=64, feedforward_channels=256),
                ),
            ),
            positional_encoding=dict(num_feats=32),
        ),
        positional_encoding=dict(num_feats=32),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=64),
                cross_attn_cfg=dict(embed_dims=64),
                ffn_cfg=dict(embed_dims=64, feedforward_channels=512),
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * _num_classes + [0.1]),
        # As many points as a mask of stride 4 has cells, as in the paper's setting.
        train_cfg=dict(num_points=768),
    ),
)

_train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))

_embed_multi = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.1, decay_mult=1.0),
            "query_embed": _embed_multi,
            "query_feat": _embed_multi,
            "level_embed": _embed_multi,
        }
    ),
    clip_grad=dict(max_norm=0.01),
)
