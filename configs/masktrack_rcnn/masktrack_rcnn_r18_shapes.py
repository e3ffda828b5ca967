# MaskTrack R-CNN on ShapesVIS, the peer of configs/maskprop/maskprop_r18_shapes.py: the same
# detector from the same weights, data, schedule and number of iterations.
_base_ = [
    "../_base_/models/mask_rcnn_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

detector = _base_.model
detector.pop("data_preprocessor")
detector.backbone.norm_eval = True
detector.backbone.frozen_stages = 1
detector.rpn_head.type = "AgnosticRPNHead"
detector.roi_head.bbox_roi_extractor.type = "Float32RoIExtractor"
detector.roi_head.mask_roi_extractor.type = "Float32RoIExtractor"
detector.init_cfg = dict(
    type="Pretrained", checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth"
)
# As MaskProp's, so that both methods link the same kind and number of detections and what differs
# between them is the tracking.
detector.test_cfg.rcnn.nms = dict(type="nms", iou_threshold=0.5, class_agnostic=True)
detector.test_cfg.rcnn.score_thr = 0.4
detector.test_cfg.rcnn.max_per_img = 10
del _base_.model

model = dict(
    type="StreamingMaskTrackRCNN",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    detector=detector,
    track_head=dict(
        type="RoITrackHead",
        roi_extractor=dict(
            type="Float32RoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=1),
            out_channels=64,
            featmap_strides=[4, 8, 16, 32],
            finest_scale=24,
        ),
        embed_head=dict(
            type="RoIEmbedHead", num_fcs=2, roi_feat_size=7, in_channels=64, fc_out_channels=128
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=32,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        ),
    ),
    tracker=dict(
        type="MaskTrackRCNNTracker",
        match_weights=dict(det_score=1.0, iou=2.0, det_label=10.0),
        num_frames_retain=20,
    ),
)
del detector

train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# The detector is trained already; the track head starts at random.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(detector=dict(lr_mult=0.1))))
