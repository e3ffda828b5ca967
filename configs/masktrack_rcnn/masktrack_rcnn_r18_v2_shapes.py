# MaskTrack R-CNN on version 2 of ShapesVIS, the peer of ../maskprop/maskprop_r18_v2_shapes.py.
_base_ = "masktrack_rcnn_r18_shapes.py"

model = dict(
    detector=dict(
        init_cfg=dict(checkpoint="{{ fileDirname }}/../../weights/mask_rcnn_r18_v2_shapes.pth")
    )
)

_version_2 = dict(data_root="data/shapes_vis_v2/", metainfo=dict(dataset_version=2))

train_dataloader = dict(dataset=_version_2)
val_dataloader = dict(dataset=_version_2)
test_dataloader = val_dataloader
