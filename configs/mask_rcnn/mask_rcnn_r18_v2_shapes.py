# The detector of version 2 of ShapesVIS.
_base_ = "mask_rcnn_r18_shapes.py"

_version_2 = dict(data_root="data/shapes_vis_v2_large/", metainfo=dict(dataset_version=2))

train_dataloader = dict(dataset=_version_2)
val_dataloader = dict(dataset=_version_2)
test_dataloader = val_dataloader
