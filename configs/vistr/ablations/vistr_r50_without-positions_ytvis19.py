# VisTR R-50 whose transformer is not told where its tokens lie.
_base_ = "../vistr_r50_ytvis19.py"

model = dict(network=dict(positional_encoding=None))
