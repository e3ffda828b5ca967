# IFC R-50 for the 40 classes of YouTube-VIS: 3 encoder blocks with 8 memory tokens a frame, 3
# decoder layers, 100 queries a clip; near-online, windows of 5 frames.
_base_ = "./frames.py"

_channels = 256
_num_heads = 8
_ffn_channels = 2048
_dropout = 0.1
model = dict(
    type="IFC",
    data_preprocessor=dict(_base_._frames, type="TrackDataPreprocessor", pad_size_divisor=1),
    network=dict(
        type="IFCNetwork",
        num_classes=40,
        num_queries=100,
        channels=_channels,
        stride=32,
        backbone=dict(
            type="ResNet",
            depth=50,
            num_stages=4,
            out_indices=(1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
            style="pytorch",
        ),
        in_channels=2048,
        positional_encoding=dict(
            type="SinePositionalEncoding", num_feats=_channels // 2, normalize=True
        ),
        encoder=dict(
            type="IFCEncoder",
            num_layers=3,
            channels=_channels,
            num_heads=_num_heads,
            ffn_channels=_ffn_channels,
            dropout=_dropout,
            communication="memory",
            num_memory=8,
            unified_memory=False,
        ),
        decoder=dict(
            type="PostNormDecoder",
            num_layers=3,
            channels=_channels,
            num_heads=_num_heads,
            ffn_channels=_ffn_channels,
            dropout=_dropout,
        ),
        mask_head=dict(
            type="IFCMaskHead", in_channels=[1024, 512], channels=_channels, num_groups=32
        ),
    ),
    criterion=dict(
        type="IFCCriterion",
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="ClassificationCost", weight=1.0),
                dict(type="DiceCost", weight=3.0, pred_act=True, naive_dice=True, eps=1.0),
            ],
        ),
        loss_cls=dict(type="CrossEntropyLoss", class_weight=[1.0] * 40 + [0.1], loss_weight=1.0),
        loss_mask=dict(type="FocalLoss", use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=3.0),
        loss_dice=dict(type="DiceLoss", naive_dice=True, eps=1.0, loss_weight=3.0),
        mask_stride=4,
    ),
    windows=dict(length=5, stride=1, min_iou=0.05),
    class_threshold=0.01,
    multi_class=True,
)

# ResNet-101 as detectron2 has it from MSRA: strides in the first convolution of a block, frames in
# BGR with the mean taken off.
_r101 = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    network=dict(
        backbone=dict(
            depth=101,
            style="caffe",
            init_cfg=dict(
                _delete_=True,
                type="Pretrained",
                checkpoint="https://download.openmmlab.com/pretrain/third_party/"
                "resnet101_msra-6cc46731.pth",
            ),
        ),
    ),
)
