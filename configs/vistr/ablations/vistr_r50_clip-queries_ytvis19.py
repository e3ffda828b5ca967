# VisTR R-50 with one vector for all instances in all frames.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(network=dict(queries=dict(per="clip")))
