# YouTube-VIS 2019. The official validation set has no public annotations: training validates on a
# part of the training JSON held out by tools/dataset_converters/split_ytvis.py, and testing writes
# the submission. To train on everything before a submission set
# train_dataloader.dataset.ann_file=train.json. See docs/datasets.md.
_dataset_type = "YTVISDataset"
_data_root = "data/youtube_vis_2019/"

# A method with other clips replaces the first transform:
#   train_dataloader = dict(
#       dataset=dict(
#           pipeline=[dict(type="CenteredClipSample", num_frames=3), *_base_._train_pipeline[1:]]
#       )
#   )
_train_pipeline = [
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
_test_pipeline = [
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
        type=_dataset_type,
        data_root=_data_root,
        ann_file="train_sub-train.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        pipeline=_train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type=_dataset_type,
        data_root=_data_root,
        ann_file="train_sub-val.json",
        data_prefix=dict(img_path="train/JPEGImages/"),
        test_mode=True,
        pipeline=_test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type=_dataset_type,
        data_root=_data_root,
        ann_file="valid.json",
        data_prefix=dict(img_path="valid/JPEGImages/"),
        test_mode=True,
        pipeline=_test_pipeline,
    ),
)

# Where the files of the benchmarks with the same format are, by data loader.
_ytvis21 = dict(
    train=dict(data_root="data/youtube_vis_2021/", ann_file="train/instances_sub-train.json"),
    val=dict(data_root="data/youtube_vis_2021/", ann_file="train/instances_sub-val.json"),
    test=dict(data_root="data/youtube_vis_2021/", ann_file="valid/instances.json"),
)
_ovis = dict(
    train=dict(
        data_root="data/ovis/",
        ann_file="annotations_train_sub-train.json",
        data_prefix=dict(img_path="train/"),
    ),
    val=dict(
        data_root="data/ovis/",
        ann_file="annotations_train_sub-val.json",
        data_prefix=dict(img_path="train/"),
    ),
    test=dict(
        data_root="data/ovis/",
        ann_file="annotations_valid.json",
        data_prefix=dict(img_path="valid/"),
    ),
)

val_evaluator = dict(type="YTVISMetric")
test_evaluator = dict(type="YTVISMetric")
