# Without the mask refinement network: masks stay on the grid of the propagation head.
_base_ = "../maskprop_r18_v2_shapes.py"

model = dict(mask_refiner=None)
