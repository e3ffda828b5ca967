# ShapesVIS (tools/dataset_converters/make_shapes_vis.py) at its own size. Methods override the
# frame sampling of the training pipeline. Data and weights of another version are refused.
_version = 1
_data_root = "data/shapes_vis/"

_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=4),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="Resize", scale=(128, 96), keep_ratio=True),
            dict(type="RandomFlip", prob=[0.25, 0.25], direction=["horizontal", "vertical"]),
        ],
    ),
    dict(type="PackTrackInputs"),
]
_test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[
            dict(type="LoadFrame"),
            dict(type="Resize", scale=(128, 96), keep_ratio=True),
        ],
    ),
    dict(type="PackTrackInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteKeyFrameSampler"),
    dataset=dict(
        type="YTVISDataset",
        data_root=_data_root,
        ann_file="train.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        metainfo=dict(dataset_version=_version),
        pipeline=_train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type="YTVISDataset",
        data_root=_data_root,
        ann_file="valid.json",
        data_prefix=dict(img_path="valid/JPEGImages/"),
        metainfo=dict(dataset_version=_version),
        test_mode=True,
        pipeline=_test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="YTVISMetric")
test_evaluator = val_evaluator
