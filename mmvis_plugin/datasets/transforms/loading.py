"""Loading of frames."""

from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

from ..youtube_vis import DatasetError, YTVISDataset


@TRANSFORMS.register_module()
class LoadFrame(LoadImageFromFile):
    """Load a frame; stop with its file and video if it is unreadable or of the wrong size.

    Without the check of the size, masks of another size would fail later and say nothing about
    the frame.

    Required keys: ``img_path``, ``video_id``, ``height``, ``width``.

    Added keys: ``img`` (height, width, 3) uint8 BGR, ``img_shape``, ``ori_shape``.

    Raises:
        DatasetError: If the file is missing, is no image, or is not as large as the JSON says.
    """

    file_words = YTVISDataset.file_words

    def transform(self, results: dict) -> dict:
        where = self.file_words.format_map(results)
        try:
            loaded = super().transform(results)
        except FileNotFoundError as error:
            raise DatasetError(f"{where} does not exist") from error
        # mmcv asserts that OpenCV could decode the file; OpenCV raises on an empty one.
        except Exception as error:
            raise DatasetError(f"{where} cannot be read as an image: {error}") from error
        expected = results["height"], results["width"]
        if loaded["ori_shape"] != expected:
            raise DatasetError(
                f"{where} is {loaded['ori_shape']} pixels (height, width) where the JSON says "
                f"{expected}"
            )
        return loaded
