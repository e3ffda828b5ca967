# MaskTrack R-CNN on ShapesVIS, the peer of configs/maskprop/maskprop_r18_shapes.py: the same
# detector from the same weights, data, schedule and number of iterations.
_base_ = [
    "../_base_/models/mask_rcnn_r18_trained_shapes.py",
    "../_base_/models/masktrack_branch.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/schedule_shapes.py",
    "../_base_/default_runtime.py",
]

_detector = _base_.model
_frames = _detector.pop("data_preprocessor")
_detector.rpn_head.type = "AgnosticRPNHead"
_detector.roi_head.bbox_roi_extractor.type = "Float32RoIExtractor"
_detector.roi_head.mask_roi_extractor.type = "Float32RoIExtractor"
del _base_.model

_track_head = _base_._track_head
_track_head.roi_extractor.roi_layer.sampling_ratio = 1
_track_head.roi_extractor.update(out_channels=64, finest_scale=24)
_track_head.embed_head.update(in_channels=64, fc_out_channels=128)
_track_head.train_cfg.sampler.update(num=32, pos_fraction=0.5)

model = dict(
    type="StreamingMaskTrackRCNN",
    data_preprocessor=dict(_frames, type="TrackDataPreprocessor"),
    detector=_detector,
    track_head=_track_head,
    tracker=_base_._tracker,
)

_train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_train_pipeline))

# The detector is trained already; the track head starts at random.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(detector=dict(lr_mult=0.1))))
