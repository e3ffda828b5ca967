# Without temporal fusion.
_base_ = "../stmask_r18_shapes.py"

shipped_weights = None

model = dict(temporal_fusion=None)
