# MaskProp on ShapesVIS: the paper's setting with a narrow detector, started from the image-level
# weights of configs/mask_rcnn/mask_rcnn_r18_shapes.py.
_base_ = [
    "../_base_/models/mask_rcnn_r18_trained_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
del _base_.model

model = dict(
    type="MaskProp",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    propagation_head=dict(
        type="PropagationHead",
        in_channels=64,
        in_strides=(4, 8, 16, 32),
        # In cells of 8 pixels the block sees as far as objects jump, 56 pixels to either side.
        stride=8,
        channels=64,
        competition="sigmoid",  # the shipped weights were trained so
        norm_cfg=dict(type="GN", num_groups=16),
    ),
    # Whatever overlaps at all is a candidate: masks are propagated over a jump with little overlap.
    # Of the same class, as in the tracker of configs/masktrack_rcnn.
    tracker=dict(type="ClipTracker", match_threshold=1e-5, within_class=True),
    reach=6,
    # Objects are a few cells of the grid wide: the detector's masks have the finer outline.
    key_masks="detected",
    max_overlap=0.5,
)

# Frames far apart show the motion between neighbours of the rare objects that are fast.
_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=12),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))

# The detector is trained already; the propagation head starts at random.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(detector=dict(lr_mult=0.1))))
