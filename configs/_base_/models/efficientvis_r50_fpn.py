# EfficientVIS R-50 FPN for the 40 classes of YouTube-VIS: 10 tracklets, 6 stages, clips of 36
# frames. Widths and stage heads are those of MMDetection's QueryInst, whose COCO weights fit
# (tools/model_converters/convert_weights.py). RoI features are computed in float32 under autocast,
# too.
_base_ = "./frames.py"

_num_classes = 40
_channels = 256
model = dict(
    type="EfficientVIS",
    data_preprocessor=dict(_base_._frames, type="TrackDataPreprocessor"),
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
        with_cp=False,
    ),
    neck=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=_channels, num_outs=4),
    tracklet_head=dict(
        type="TrackletHead",
        num_queries=10,
        num_stages=6,
        # True saves memory (backbone.with_cp likewise): activations are computed twice.
        with_cp=False,
        roi_extractor=dict(
            type="Float32RoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=2),
            out_channels=_channels,
            featmap_strides=[4, 8, 16, 32],
        ),
        stage=dict(
            type="TrackletStage",
            num_classes=_num_classes,
            in_channels=_channels,
            self_attention="factorised",
            time_shared=False,
            num_heads=8,
            num_ffn_fcs=2,
            feedforward_channels=2048,
            num_cls_fcs=1,
            num_reg_fcs=3,
            dropout=0.0,
            ffn_act_cfg=dict(type="ReLU", inplace=True),
            dynamic_conv_cfg=dict(
                type="TemporalDynamicConv",
                temporal=True,
                in_channels=_channels,
                feat_channels=64,
                out_channels=_channels,
                input_feat_shape=7,
                act_cfg=dict(type="ReLU", inplace=True),
                norm_cfg=dict(type="LN"),
            ),
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder",
                clip_border=False,
                target_means=[0.0] * 4,
                target_stds=[0.5, 0.5, 1.0, 1.0],
            ),
            mask_head=dict(
                type="FCNMaskHead",
                num_convs=4,
                in_channels=_channels,
                conv_out_channels=_channels,
                num_classes=_num_classes,
                class_agnostic=True,
                upsample_cfg=dict(type="deconv", scale_factor=2),
            ),
        ),
    ),
    criterion=dict(
        type="TrackletCriterion",
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="TrackletClassCost", weight=2.0),
                dict(type="TrackletL1Cost", weight=5.0),
                dict(type="TrackletGIoUCost", weight=2.0),
                dict(type="TrackletMaskIoUCost", weight=2.0),
            ],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
        # The paper does not give this one.
        loss_mask=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=2.0),
        loss_dice=dict(type="DiceLoss", use_sigmoid=True, activate=True, eps=1e-5, loss_weight=8.0),
        background_weight=0.1,
    ),
    clip_length=36,
    linking=dict(type="QueryLinking", reset_after=3),
)
