# VisTR R-101 on YouTube-VIS 2019, at the smaller training size that the authors used for it.
_base_ = "./vistr_r50_ytvis19.py"

model = _base_._r101

_pipeline = _base_._train_pipeline
_pipeline[3].transforms[2].update(side=280, max_long_side=504)
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
