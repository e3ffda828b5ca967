# The tracking branch of MaskTrack R-CNN with MMDetection's values: each box has
# an embedding, compared with those of the tracks beside score, overlap and class. It stands on any
# two-stage detector with a mask head.
_track_head = dict(
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
)
_tracker = dict(
    type="MaskTrackRCNNTracker",
    match_weights=dict(det_score=1.0, iou=2.0, det_label=10.0),
    num_frames_retain=20,
)
