# VisTR R-50 for the 40 classes of YouTube-VIS: clips of 36 frames with 10 instances, 6 encoder and
# 6 decoder layers over all cells of all frames.
_base_ = "./frames.py"

_num_classes = 40
_channels = 384
_num_frames = 36
model = dict(
    type="VisTR",
    data_preprocessor=dict(_base_._frames, type="TrackDataPreprocessor", pad_size_divisor=1),
    network=dict(
        type="VisTRNetwork",
        num_classes=_num_classes,
        backbone=dict(
            type="ResNet",
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
            style="pytorch",
        ),
        in_channels=2048,
        positional_encoding=dict(type="SineClipPositions", channels=_channels),
        num_encoder_layers=6,
        num_decoder_layers=6,
        layers=dict(channels=_channels, num_heads=8, ffn_channels=2048, dropout=0.1),
        # One learnt vector for each instance in each frame.
        queries=dict(per="prediction", num_frames=_num_frames, num_instances=10),
        mask_head=dict(
            type="VisTRMaskHead",
            num_heads=8,
            in_channels=(1024, 512, 256),
            mid_channels=(192, 96, 48),
            out_channels=24,
            num_groups=8,
            deformable=True,
            clip_channels=12,
            clip_groups=4,
        ),
    ),
    criterion=dict(
        type="VisTRCriterion",
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="VisTRClassCost", weight=1.0),
                dict(type="VisTRBoxCost", weight=5.0),
                dict(type="VisTRIoUCost", weight=2.0),
            ],
        ),
        loss_cls=dict(type="CrossEntropyLoss", loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_mask=dict(type="FocalLoss", use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=1.0),
        loss_dice=dict(type="DiceLoss", naive_dice=True, eps=1.0, loss_weight=1.0),
        iou_weight=2.0,
        background_weight=0.1,
    ),
    windows=dict(length=_num_frames, overlap=18, min_iou=0.5),
    frames_per_batch=6,
)

_r101 = dict(
    network=dict(
        backbone=dict(
            depth=101,
            init_cfg=dict(
                _delete_=True,
                type="Pretrained",
                checkpoint="https://download.pytorch.org/models/resnet101-63fe2227.pth",
            ),
        ),
    ),
)
