"""MS-STS VIS (Thawakar et al., ECCV 2022) and SeqFormer (Wu et al., ECCV 2022)."""

from .adversarial import (
    AdversarialDistributedDataParallel,
    AdversarialOptimWrapperConstructor,
    adversarial_step,
)
from .criterion import SeqFormerCriterion
from .decoder import SeqFormerDecoder
from .encoder import SeqFormerEncoder
from .mask_head import SeqFormerMaskHead
from .match_costs import ClipBoxL2Cost, ClipGIoUCost
from .ms_sts_attention import MSSTSAttention
from .mssts import MSSTSVIS
from .separability import ForegroundViews, SeparabilityDiscriminator

__all__ = [
    "MSSTSVIS",
    "AdversarialDistributedDataParallel",
    "AdversarialOptimWrapperConstructor",
    "ClipBoxL2Cost",
    "ClipGIoUCost",
    "ForegroundViews",
    "MSSTSAttention",
    "SeparabilityDiscriminator",
    "SeqFormerCriterion",
    "SeqFormerDecoder",
    "SeqFormerEncoder",
    "SeqFormerMaskHead",
    "adversarial_step",
]
