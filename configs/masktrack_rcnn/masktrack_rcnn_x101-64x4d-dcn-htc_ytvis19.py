# The tracking branch of MaskTrack R-CNN on the detector, and with the training, of MaskProp's best
# model: a row of Table 3 of the MaskProp paper.
_base_ = [
    "../maskprop/maskprop_x101-64x4d-dcn-htc_ytvis19.py",
    "../_base_/models/masktrack_branch.py",
]

_detector = _base_.model.detector
_detector.rpn_head.type = "AgnosticRPNHead"

model = dict(
    _delete_=True,
    type="StreamingMaskTrackRCNN",
    data_preprocessor=_base_.model.data_preprocessor,
    detector=_detector,
    track_head=_base_._track_head,
    tracker=_base_._tracker,
)

# The branch learns from pairs of frames.
_train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))
