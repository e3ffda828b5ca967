# EfficientVIS for ShapesVIS: every part of the paper's model at a quarter of the width, with 4
# stages; backbone and FPN are those of the shapes detector, up to stride 16: the whole frame, which
# the first stage looks at, goes to stride 8, an object to stride 4.
_base_ = "./efficientvis_r50_fpn.py"

_num_classes = 6
_channels = 64
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        frozen_stages=-1,
    ),
    neck=dict(in_channels=[32, 64, 128], out_channels=_channels, num_outs=3),
    tracklet_head=dict(
        num_stages=4,
        roi_extractor=dict(
            roi_layer=dict(output_size=10, sampling_ratio=1),
            out_channels=_channels,
            featmap_strides=[4, 8, 16],
            finest_scale=32,
        ),
        stage=dict(
            num_classes=_num_classes,
            in_channels=_channels,
            feedforward_channels=256,
            dynamic_conv_cfg=dict(
                in_channels=_channels, feat_channels=16, out_channels=_channels, input_feat_shape=5
            ),
            mask_head=dict(
                num_convs=2, in_channels=_channels, conv_out_channels=32, num_classes=_num_classes
            ),
        ),
    ),
    criterion=dict(background_weight=0.4),
    clip_length=8,
    # Not before the end of a video: its few clips are not "many".
    # The shipped weights were trained with unused queries carried on.
    linking=dict(reset_after=5, free_unused=False),
)
