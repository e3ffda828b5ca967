# VisTR R-50 with one vector for each frame, the same for all instances.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(network=dict(queries=dict(per="frame")))
