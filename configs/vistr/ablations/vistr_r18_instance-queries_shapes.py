# VisTR on ShapesVIS with one vector for each instance, the same in all frames.
_base_ = "../vistr_r18_shapes.py"

model = dict(network=dict(queries=dict(per="instance")))
