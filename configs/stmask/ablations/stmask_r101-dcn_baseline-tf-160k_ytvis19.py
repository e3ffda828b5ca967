# Table 5: the baseline with temporal fusion alone.
_base_ = "./stmask_r101-dcn_fca-160k_ytvis19.py"

model = dict(
    detector=dict(
        bbox_head=dict(
            kernel_sizes=((3, 3), (3, 3), (3, 3)),
            anchor_sizes=((3, 3), (4.2426, 2.1213), (2.1213, 4.2426)),
        )
    )
)
