# VisTR for ShapesVIS: every part of the paper's model, narrower, with 3 encoder and 3 decoder
# layers, clips of 12 frames and 8 instances. The frames and their objects are small, so that the
# backbone's last stage stays at stride 16.
_base_ = "./vistr_r50.py"

_channels = 96
_num_heads = 6
_num_frames = 12
model = dict(
    network=dict(
        num_classes=6,
        backbone=dict(depth=18, base_channels=32, strides=(1, 2, 2, 1)),
        in_channels=256,
        positional_encoding=dict(channels=_channels),
        num_encoder_layers=3,
        num_decoder_layers=3,
        # A tenth of the paper's updates: no time for noise.
        layers=dict(channels=_channels, num_heads=_num_heads, ffn_channels=256, dropout=0.0),
        queries=dict(num_frames=_num_frames, num_instances=8),
        mask_head=dict(
            num_heads=_num_heads,
            in_channels=(128, 64, 32),
            mid_channels=(48, 24, 16),
            out_channels=8,
            num_groups=2,
            clip_channels=8,
        ),
    ),
    windows=dict(length=_num_frames, overlap=6),
)
