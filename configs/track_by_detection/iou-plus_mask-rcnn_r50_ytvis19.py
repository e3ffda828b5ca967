# IoUTracker+ on YouTube-VIS 2019: Mask R-CNN R-50, trained on single frames from COCO weights.
# The paper's baselines share this detector.
_base_ = [
    "../_base_/models/mask_rcnn_r50_fpn.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
# The weights that configs/maskprop/maskprop_r50_ytvis19.py starts from.
_detector.init_cfg.checkpoint = (
    "https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_"
    "coco/mask_rcnn_r50_fpn_mstrain-poly_3x_coco_20210524_201154-21b550bb.pth"
)
del _base_.model

model = dict(type="TrackByDetection", detector=_detector, linker=dict(type="IoUPlusLinker"))

_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=1),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
