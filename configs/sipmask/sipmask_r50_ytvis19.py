# SipMask-VIS R-50 on YouTube-VIS 2019 at 640 x 360 as released: a key frame and any other frame of
# its video, 12 epochs. The others inherit from it.
_base_ = [
    "../_base_/models/sipmask_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
# What fits of MMDetection's FCOS: backbone, FPN and some of the towers. The authors start from
# their SipMask on COCO; README.md tells how to do so.
_detector.init_cfg = dict(
    type="Pretrained",
    checkpoint="https://download.openmmlab.com/mmdetection/v2.0/fcos/"
    "fcos_r50_caffe_fpn_gn-head_1x_coco/fcos_r50_caffe_fpn_gn-head_1x_coco-821213aa.pth",
)
del _base_.model

model = dict(
    type="SipMask",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    tracker=dict(
        type="SipMaskTracker", score_weight=1.0, iou_weight=2.0, label_weight=10.0, max_gap=300
    ),
)

# 4 GPUs with 8 pairs each.
train_dataloader = dict(batch_size=8)
auto_scale_lr = dict(base_batch_size=32)

optim_wrapper = dict(
    optimizer=dict(lr=0.005),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=None,
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 80, by_epoch=False, begin=0, end=1000),
    _base_.param_scheduler[1],
]
