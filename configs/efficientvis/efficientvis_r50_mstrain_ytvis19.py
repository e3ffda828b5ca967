# EfficientVIS R-50 trained at several scales (Table 2). The paper does not name them; these are the
# two that the methods it compares with train at.
_base_ = "./efficientvis_r50_ytvis19.py"

train_pipeline = [
    _base_.train_pipeline[0],
    dict(
        type="TransformBroadcaster",
        share_random_params=True,
        transforms=[
            dict(type="LoadFrame"),
            dict(type="LoadTrackAnnotations", with_mask=True),
            dict(type="RandomChoiceResize", scales=[(640, 360), (960, 480)], keep_ratio=True),
        ],
    ),
    _base_.train_pipeline[2],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
