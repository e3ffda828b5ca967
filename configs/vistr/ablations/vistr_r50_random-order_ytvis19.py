# VisTR R-50, trained on clips whose frames are in random order.
_base_ = "../vistr_r50_ytvis19.py"

_pipeline = [
    dict(type="CircularClipSample", length=36, shuffle=True),
    *_base_._train_pipeline[1:],
]
train_dataloader = dict(dataset=dict(pipeline=_pipeline))
