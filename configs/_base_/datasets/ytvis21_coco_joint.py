# YouTube-VIS 2021 and COCO's images as pseudo-clips: as ytvis19_coco_joint.py.
_base_ = "./ytvis21.py"

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
    data_root="data/youtube_vis_2021/",
    ann_file="train/instances_sub-train.json",
    data_prefix=dict(img_path="train/JPEGImages/"),
)
coco_train = dict(
    type="COCOClips",
    benchmark="ytvis21",
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
