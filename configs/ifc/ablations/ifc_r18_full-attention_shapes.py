# All cells of all frames attend to each other.
_base_ = "../ifc_r18_shapes.py"

model = dict(network=dict(encoder=dict(communication="full")))
