# YouTube-VIS 2019. The official validation set has no public annotations: training validates on a
# part of the training JSON held out by tools/dataset_converters/split_ytvis.py, and testing writes
# the submission. To train on everything before a submission set
# train_dataloader.dataset.ann_file=train.json. See docs/datasets.md.
dataset_type = "YTVISDataset"
data_root = "data/youtube_vis_2019/"

# A method with other clips replaces the first transform:
#   train_pipeline = [dict(type='CenteredClipSample', num_frames=3), *_base_.train_pipeline[1:]]
train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="Resize", scale=(640, 360), keep_ratio=True),
            dict(type="RandomFlip", prob=0.5),
        ],
    ),
    dict(type="PackTrackInputs"),
]
test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[
            dict(type="LoadFrame"),
            dict(type="Resize", scale=(640, 360), keep_ratio=True),
        ],
    ),
    dict(type="PackTrackInputs"),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="KeyFrameSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="train_sub-train.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="train_sub-val.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="valid.json",
        data_prefix=dict(img_path="valid/JPEGImages/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type="YTVISMetric")
test_evaluator = dict(type="YTVISMetric")
