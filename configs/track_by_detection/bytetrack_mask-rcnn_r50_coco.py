# ByteTrack on Mask R-CNN R-50, for real videos: MMDetection's weights know the 80 classes of COCO.
_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py"

custom_imports = dict(imports=["mmvis_plugin"], allow_failed_imports=False)

_detector = _base_.model
del _base_.model

model = dict(type="TrackByDetection", detector=_detector, linker=dict(type="ByteTrackLinker"))

# The detector is trained by MMDetection.
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_cfg = val_evaluator = test_cfg = test_evaluator = None
custom_hooks = []
