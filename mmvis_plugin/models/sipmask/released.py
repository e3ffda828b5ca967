"""The authors' SipMask: models of MMDetection 1.x, for videos and, as a start, for images."""

from torch import nn

from mmvis_plugin.ytvis.categories import OVIS, YTVIS19, YTVIS21

from ..code_base import CodeBase, Conversion
from .detector import SipMaskDetector

_WB = r"(weight|bias)"
_THEIRS, _OURS = r"bbox_head\.", "detector.bbox_head."


def adapt(conversion: Conversion, model: nn.Module) -> bool:
    """Lay weights out for a model; an image model has no prefix in its keys and no track branch."""
    if not isinstance(model, SipMaskDetector):
        return False
    for ours in [ours for ours in conversion.state if "bbox_head.track_convs." in ours
                 or "bbox_head.conv_track." in ours]:  # fmt: skip
        conversion.drop(ours, "the track branch, which an image model does not have")
    conversion.state, conversion.origins = (
        {ours.removeprefix("detector."): value for ours, value in mapping.items()}
        for mapping in (conversion.state, conversion.origins)
    )
    return True


SIPMASK = CodeBase(
    title="SipMask",
    models=("SipMask", "SipMaskDetector"),
    required=(
        "backbone.conv1.weight",
        "neck.lateral_convs.0.conv.weight",
        "bbox_head.sip_cof.weight",
        "bbox_head.sip_mask_lat0.weight",
    ),
    renames=[
        (r"(backbone|neck)\.(.+)", r"detector.\1.\2"),
        (rf"{_THEIRS}((?:cls|reg|track)_convs\..+)", rf"{_OURS}\1"),
        (rf"{_THEIRS}fcos_(cls|reg|centerness)\.{_WB}", rf"{_OURS}conv_\1.\2"),
        (rf"{_THEIRS}(scales\.\d\.scale)", rf"{_OURS}\1"),
        (rf"{_THEIRS}(feat_align\.(?:conv_offset\.weight|norm\.{_WB}))", rf"{_OURS}\1"),
        (rf"{_THEIRS}feat_align\.conv_adaption\.weight", f"{_OURS}feat_align.conv_adapt.weight"),
        (rf"{_THEIRS}sip_cof\.{_WB}", rf"{_OURS}conv_coeff.\1"),
        (rf"{_THEIRS}sip_mask_lat0\.{_WB}", rf"{_OURS}basis_reduce.\1"),
        (rf"{_THEIRS}sip_mask_lat\.{_WB}", rf"{_OURS}conv_basis.\1"),
        (rf"{_THEIRS}sipmask_track\.{_WB}", rf"{_OURS}conv_track.\1"),
    ],
    is_start=lambda source: "bbox_head.sipmask_track.weight" not in source,
    trained_anew=r"detector\.bbox_head\.(track_convs|conv_track|conv_cls)\..+",
    classes={"ytvis19": YTVIS19, "ytvis21": YTVIS21, "ovis": OVIS},
    class_bias=r"detector\.bbox_head\.conv_cls\.bias",
    adapt=adapt,
)
