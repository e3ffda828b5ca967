# ByteTrack on Mask2Former R-50, for real videos: MMDetection's weights know the 80 classes of COCO.
_base_ = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"

custom_imports = dict(imports=["mmvis_plugin"], allow_failed_imports=False)

_detector = _base_.model
del _base_.model

model = dict(
    type="TrackByDetection",
    detector=_detector,
    linker=dict(type="ByteTrackLinker"),
    mask_nms_iou=0.8,  # its queries may find an object twice
)

# The detector is trained by MMDetection.
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_cfg = val_evaluator = test_cfg = test_evaluator = None
custom_hooks = []
