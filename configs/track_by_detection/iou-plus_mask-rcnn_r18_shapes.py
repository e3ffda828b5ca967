# IoUTracker+ on ShapesVIS. The detector is that of configs/mask_rcnn/mask_rcnn_r18_shapes.py, whose
# weights come with the package. Training is the detector's, on single frames.
_base_ = [
    "../_base_/models/mask_rcnn_r18_trained_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
del _base_.model

model = dict(type="TrackByDetection", detector=_detector, linker=dict(type="IoUPlusLinker"))

_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=1),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
