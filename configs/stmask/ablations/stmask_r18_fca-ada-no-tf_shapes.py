# Without temporal fusion.
_base_ = "../stmask_r18_shapes.py"

model = dict(temporal_fusion=None)
