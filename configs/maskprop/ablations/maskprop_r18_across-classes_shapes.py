# Identities may go to instances of another class.
_base_ = "../maskprop_r18_shapes.py"

model = dict(tracker=dict(within_class=False))
