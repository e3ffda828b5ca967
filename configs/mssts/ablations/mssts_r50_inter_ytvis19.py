# The baseline with inter-scale temporal attention in the encoder.
_base_ = "./mssts_r50_baseline_ytvis19.py"

model = dict(encoder=dict(ms_sts=dict(type="MSSTSAttention", intra=False, inter=True)))
