# The baseline with MS-STS attention, within and between scales, in the encoder.
_base_ = "./mssts_r50_baseline_ytvis19.py"

model = dict(encoder=dict(ms_sts=dict(type="MSSTSAttention", intra=True, inter=True)))
