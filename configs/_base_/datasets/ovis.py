# OVIS: as YouTube-VIS 2019, in its own layout.
_base_ = "./ytvis19.py"

train_dataloader = dict(dataset=_base_._ovis.train)
val_dataloader = dict(dataset=_base_._ovis.val)
test_dataloader = dict(dataset=_base_._ovis.test)
