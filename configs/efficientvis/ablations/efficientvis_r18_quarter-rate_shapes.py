# Table 1h: tests the weights of the config that it inherits from on every fourth frame. The JSON is
# written by tools/dataset_converters/lower_frame_rate.py data/shapes_vis/valid.json --stride 4
_base_ = "../efficientvis_r18_shapes.py"

val_dataloader = dict(dataset=dict(ann_file="valid_stride4.json"))
test_dataloader = val_dataloader
