# VisTR R-50 on OVIS; videos longer than 36 frames are segmented in windows.
_base_ = "./vistr_r50_ytvis19.py"

model = dict(network=dict(num_classes=25))

train_dataloader = dict(dataset=_base_._ovis.train)
val_dataloader = dict(dataset=_base_._ovis.val)
test_dataloader = dict(dataset=_base_._ovis.test)
