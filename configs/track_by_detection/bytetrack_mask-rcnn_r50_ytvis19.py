# ByteTrack on YouTube-VIS 2019, with the detector of iou-plus_mask-rcnn_r50_ytvis19.py.
_base_ = "./iou-plus_mask-rcnn_r50_ytvis19.py"

model = dict(linker=dict(_delete_=True, type="ByteTrackLinker"))
