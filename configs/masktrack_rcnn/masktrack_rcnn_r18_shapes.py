# MaskTrack R-CNN on ShapesVIS, the peer of configs/maskprop/maskprop_r18_shapes.py: the same
# detector from the same weights, data, schedule and number of iterations.
_base_ = [
    "../_base_/models/mask_rcnn_r18_shapes.py",
    "../_base_/models/masktrack_branch.py",
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

track_head = _base_.track_head
track_head.roi_extractor.roi_layer.sampling_ratio = 1
track_head.roi_extractor.update(out_channels=64, finest_scale=24)
track_head.embed_head.update(in_channels=64, fc_out_channels=128)
track_head.train_cfg.sampler.update(num=32, pos_fraction=0.5)

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
    track_head=track_head,
    tracker=_base_.tracker,
)
del detector

train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# The detector is trained already; the track head starts at random.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(detector=dict(lr_mult=0.1))))
