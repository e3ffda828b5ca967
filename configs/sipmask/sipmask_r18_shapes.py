# SipMask-VIS on ShapesVIS, a key frame and any other frame of its video. The backbone starts from
# the weights of configs/mask_rcnn/mask_rcnn_r18_shapes.py.
_base_ = [
    "../_base_/models/sipmask_r18_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
_detector.bbox_head.embed_dims = 64
_detector.backbone.init_cfg = dict(
    type="Pretrained",
    checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_shapes.pth",
    prefix="backbone.",
)
_detector.test_cfg.max_per_img = 10
del _base_.model

model = dict(
    type="SipMask",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    tracker=dict(type="SipMaskTracker"),
)

_train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
