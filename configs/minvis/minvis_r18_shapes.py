# MinVIS on ShapesVIS: a quarter of the width, 20 queries, 3 encoder and 3 decoder layers. Only the
# backbone starts from trained weights, those of the shapes detector; where the paper's model is
# fine-tuned from COCO, transformer and heads start at random here.
_base_ = [
    "../_base_/models/minvis_r50.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

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
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=64,
        out_channels=64,
        num_classes=6,
        num_queries=20,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=16),
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=dict(embed_dims=64, num_heads=4),
                    ffn_cfg=dict(embed_dims=64, feedforward_channels=128),
                ),
            ),
            positional_encoding=dict(num_feats=32),
        ),
        positional_encoding=dict(num_feats=32),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=64, num_heads=4),
                cross_attn_cfg=dict(embed_dims=64, num_heads=4),
                ffn_cfg=dict(embed_dims=64, feedforward_channels=128),
            ),
        ),
        train_cfg=dict(num_points=1024),
    ),
)

_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=1),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(
    batch_size=8,
    sampler=dict(type="InfiniteVideoSampler"),
    dataset=dict(pipeline=_train_pipeline),
)

_embedding = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1, decay_mult=1.0),
            query_embed=_embedding,
            query_feat=_embedding,
            level_embed=_embedding,
        )
    ),
    clip_grad=dict(max_norm=0.01),
)
auto_scale_lr = dict(base_batch_size=8)
