# VisTR R-50 on YouTube-VIS 2021; videos longer than 36 frames are segmented in windows.
_base_ = "./vistr_r50_ytvis19.py"

train_dataloader = dict(dataset=_base_._ytvis21.train)
val_dataloader = dict(dataset=_base_._ytvis21.val)
test_dataloader = dict(dataset=_base_._ytvis21.test)
