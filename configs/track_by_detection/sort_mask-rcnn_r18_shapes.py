# SORT on ShapesVIS, with the detector of iou-plus_mask-rcnn_r18_shapes.py.
_base_ = "./iou-plus_mask-rcnn_r18_shapes.py"

model = dict(linker=dict(_delete_=True, type="SORTLinker"))
