# The tracking branch of MaskTrack R-CNN on the detector, and with the training, of MaskProp's best
# model: a row of Table 3 of the MaskProp paper.
_base_ = "../maskprop/maskprop_x101-64x4d-dcn-htc_ytvis19.py"

detector = _base_.model.detector
detector.rpn_head.type = "AgnosticRPNHead"

model = dict(
    _delete_=True,
    type="StreamingMaskTrackRCNN",
    data_preprocessor=_base_.model.data_preprocessor,
    detector=detector,
    track_head=dict(
        type="RoITrackHead",
        roi_extractor=dict(
            type="Float32RoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        embed_head=dict(
            type="RoIEmbedHead",
            num_fcs=2,
            roi_feat_size=7,
            in_channels=256,
            fc_out_channels=1024,
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=128,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        ),
    ),
    tracker=dict(
        type="MaskTrackRCNNTracker",
        match_weights=dict(det_score=1.0, iou=2.0, det_label=10.0),
        num_frames_retain=20,
    ),
)
del detector

# The branch learns from pairs of frames.
train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    *_base_.train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
