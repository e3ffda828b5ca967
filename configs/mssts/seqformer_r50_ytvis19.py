# SeqFormer R-50 on YouTube-VIS 2019: clips of 5 frames, whole videos at test time. The backbone
# starts from Deformable DETR's COCO weights; where the paper starts, with the transformer trained
# on COCO too, is told in README.md.
_base_ = [
    "../_base_/models/mssts_seqformer_r50.py",
    "../_base_/datasets/ytvis19.py",
    "../_base_/schedules/schedule_ytvis_12e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmdetection/v3.0/deformable_detr/"
            "deformable-detr-refine_r50_16xb2-50e_coco/"
            "deformable-detr-refine_r50_16xb2-50e_coco_20221022_225303-844e0f93.pth",
            prefix="backbone.",
        )
    )
)

# Half of the clips are cropped at one of three sizes; then all are resized, with anti-aliasing.
_crop = dict(
    type="RandomCrop",
    crop_type="absolute_range",
    crop_size=(384, 600),
    allow_negative_crop=True,
)
_flip = dict(type="RandomFlip", prob=0.5)
_crop_and_resize = [
    dict(
        type="SharedRandomChoice",
        transforms=[
            *[[]] * 3,
            *[
                [dict(type="ResizeShortSide", side=side, backend="pillow"), _crop]
                for side in (400, 500, 600)
            ],
        ],
    ),
    dict(
        type="SharedRandomChoice",
        transforms=[
            [dict(type="ResizeShortSide", side=side, max_long_side=768, backend="pillow")]
            for side in (288, 320, 352, 392, 416, 448, 480, 512)
        ],
    ),
]
_clip_sampling = dict(type="LocalGlobalClipSample", num_frames=5, local_range=3)
_train_pipeline = [
    _clip_sampling,
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            _flip,
            dict(type="PhotoMetricDistortion"),
            *_crop_and_resize,
        ],
    ),
    dict(type="PackTrackInputs"),
]
_test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[
            dict(type="LoadFrame"),
            # However long the other side; with antialiasing, as torchvision.
            dict(type="ResizeShortSide", side=360, backend="pillow"),
        ],
    ),
    dict(type="PackTrackInputs"),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=_test_pipeline))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=2e-4, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            reference_points=dict(lr_mult=0.1),
            sampling_offsets=dict(lr_mult=0.1),
        )
    ),
    clip_grad=dict(max_norm=0.1),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[2, 10], gamma=0.1)
]
# 8 GPUs with 2 clips each.
auto_scale_lr = dict(base_batch_size=16)

# For the joint configs: COCO's images as clips, whose copies differ in colour already, and a
# schedule of their own.
_coco_train = dict(
    type="COCOClips",
    benchmark="ytvis19",
    data_root="data/coco/",
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img_path="train2017/"),
    pipeline=[
        _clip_sampling,
        dict(type="LoadImageClip"),
        dict(
            type="TransformBroadcaster",
            share_random_params=True,
            transforms=[_flip, *_crop_and_resize],
        ),
        dict(type="PackTrackInputs"),
    ],
)
_joint_dataset = dict(
    _delete_=True,
    type="ConcatDataset",
    datasets=[
        dict(_base_.train_dataloader.dataset, pipeline=_train_pipeline),
        _coco_train,
    ],
)
_joint_param_scheduler = [dict(_base_.param_scheduler[1], milestones=[4, 10])]
