# SeqFormer for ShapesVIS: every part of the paper's model, narrower, with 3 encoder and 3 decoder
# layers and 20 queries. The frames and their objects are small, so that scales begin at stride 4
# (and the fourth is computed from C4); the backbone's last stage is not needed then.
_base_ = "./mssts_seqformer_r50.py"

_num_classes = 6
_channels = 96
_num_heads = 6
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        num_stages=3,
        out_indices=(0, 1, 2),
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
    ),
    neck=dict(in_channels=[32, 64, 128], out_channels=_channels),
    positional_encoding=dict(num_feats=_channels // 2),
    encoder=dict(
        num_layers=3,
        channels=_channels,
        num_heads=_num_heads,
        num_points=2,
        ffn_channels=256,
        # A tenth of the paper's updates: no time for noise.
        dropout=0.0,
    ),
    decoder=dict(
        num_classes=_num_classes,
        unused_logits=(0, 0),
        num_layers=3,
        num_queries=20,
        channels=_channels,
        num_heads=_num_heads,
        ffn_channels=256,
        dropout=0.0,
    ),
    mask_head=dict(channels=_channels, mid_channels=32, stride=4, coordinate_unit=32.0),
    criterion=dict(cell_targets="mean"),
)
