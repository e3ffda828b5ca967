# YouTube-VIS 2019 and COCO's images as pseudo-clips, in one epoch of both; see docs/datasets.md.
# Validation and testing are those of YouTube-VIS 2019. A method with clips or augmentation of its
# own replaces the pipelines of the two datasets; that of COCO has LoadImageClip between the
# transform that chooses the frames and those that treat them alike, in place of LoadFrame and
# LoadTrackAnnotations.
_base_ = "./ytvis19.py"

_coco_train_pipeline = [
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

_coco_train = dict(
    type="COCOClips",
    benchmark="ytvis19",
    data_root="data/coco/",
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img_path="train2017/"),
    pipeline=_coco_train_pipeline,
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[_base_.train_dataloader.dataset, _coco_train],
    )
)
