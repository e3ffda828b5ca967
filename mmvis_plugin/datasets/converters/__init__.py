"""Converters between the official YouTube-VIS JSON and other formats, one module a format."""

from .builder import Conversion, YTVISBuilder
from .cocovid import cocovid_to_ytvis, ytvis_to_cocovid
from .cvat import convert_cvat
from .labelme import convert_labelme
from .mots import convert_mots
from .records import ConversionError
from .vos import convert_vos

__all__ = [
    "Conversion",
    "ConversionError",
    "YTVISBuilder",
    "cocovid_to_ytvis",
    "convert_cvat",
    "convert_labelme",
    "convert_mots",
    "convert_vos",
    "ytvis_to_cocovid",
]
