# Without the mask refinement network: masks stay on the grid of the propagation head.
_base_ = "../maskprop_r50_ytvis19.py"

model = dict(mask_refiner=None)
