# IFC for ShapesVIS: every part of the paper's model, as many layers and memory tokens, narrower,
# with 20 queries. The frames and their objects are small, so that the encoder is on stride 16 and
# masks are on stride 4; the backbone's last stage is not needed then.
_base_ = "./ifc_r50.py"

_num_classes = 6
_channels = 96
# A tenth of the paper's images: no time for noise.
_layers = dict(channels=_channels, num_heads=6, ffn_channels=256, dropout=0.0)
model = dict(
    network=dict(
        num_classes=_num_classes,
        num_queries=20,
        channels=_channels,
        stride=16,
        backbone=dict(
            depth=18,
            base_channels=32,
            num_stages=3,
            out_indices=(0, 1, 2),
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
        ),
        in_channels=128,
        positional_encoding=dict(num_feats=_channels // 2),
        encoder=_layers,
        decoder=_layers,
        mask_head=dict(in_channels=[64, 32], channels=_channels, num_groups=8),
    ),
    criterion=dict(mask_stride=2),
)
