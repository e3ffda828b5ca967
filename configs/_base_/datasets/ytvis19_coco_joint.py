# YouTube-VIS 2019 and COCO's images as pseudo-clips, in one epoch of both; see docs/datasets.md.
# Validation and testing are those of YouTube-VIS 2019. A method with clips or augmentation of its
# own replaces the two datasets:
#   train_dataloader = dict(
#       dataset=dict(
#           datasets=[
#               dict(_base_.ytvis_train, pipeline=train_pipeline),
#               dict(_base_.coco_train, pipeline=coco_train_pipeline),
#           ]
#       )
#   )
# where coco_train_pipeline has LoadImageClip between the transform that chooses the frames and
# those that treat them alike, in place of LoadFrame and LoadTrackAnnotations.
_base_ = "./ytvis19.py"

coco_train_pipeline = [
    dict(type="UniformRefFrameSample", num_ref_imgs=1, frame_range=100),
    dict(type="LoadImageClip"),
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="Resize", scale=(640, 360), keep_ratio=True),
            dict(type="RandomFlip", prob=0.5),
        ],
    ),
    dict(type="PackTrackInputs"),
]

ytvis_train = dict(
    type="YTVISDataset",
    data_root="data/youtube_vis_2019/",
    ann_file="train_sub-train.json",
    data_prefix=dict(img_path="train/JPEGImages/"),
)
coco_train = dict(
    type="COCOClips",
    benchmark="ytvis19",
    data_root="data/coco/",
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img_path="train2017/"),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(ytvis_train, pipeline={{_base_.train_pipeline}}),
            dict(coco_train, pipeline=coco_train_pipeline),
        ],
    )
)
