# MaskProp by the paper's rules on version 2 of ShapesVIS: instances compete for pixels, the refined
# propagated masks are the result, and identities follow from masks alone.
_base_ = "maskprop_r18_shapes.py"

model = dict(
    detector=dict(
        init_cfg=dict(checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_v2_shapes.pth")
    ),
    propagation_head=dict(competition="softmax"),
    mask_refiner=dict(
        type="MaskRefiner",
        size=64,
        stride=2,
        channels=32,
        num_blocks=4,
        norm_cfg=dict(type="GN", num_groups=8),
    ),
    # Above what masks of different objects share by half of all pairs (0.02).
    tracker=dict(match_threshold=0.05, within_class=False),
    key_masks="propagated",
)

_version_2 = dict(data_root="data/shapes_vis_v2/", metainfo=dict(dataset_version=2))
_train_pipeline = [
    dict(type="CenteredClipSample", num_frames=3, frame_range=6),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(_version_2, pipeline=_train_pipeline))
val_dataloader = dict(dataset=_version_2)
test_dataloader = val_dataloader
