# MinVIS on MMDetection's Mask2Former for the 80 classes of COCO: nothing is trained, images alone
# taught it, and its queries can be linked all the same. To score it on your own videos, put them
# where test_dataloader says.
_base_ = ["../_base_/models/minvis_r50.py", "../_base_/default_runtime.py"]

model = dict(panoptic_head=dict(num_classes=80))

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type="YTVISDataset",
        data_root="data/videos/",
        ann_file="instances.json",
        data_prefix=dict(img_path="JPEGImages/"),
        test_mode=True,
        pipeline=[
            dict(
                type="TransformBroadcaster",
                transforms=[
                    dict(type="LoadFrame"),
                    dict(type="Resize", scale=(1333, 480), keep_ratio=True),
                ],
            ),
            dict(type="PackTrackInputs"),
        ],
    ),
)
test_evaluator = dict(type="YTVISMetric")
test_cfg = dict(type="TestLoop")
