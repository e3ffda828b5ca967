# VisTR R-50 with one vector for each instance, the same in all frames.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(network=dict(queries=dict(per="instance")))
