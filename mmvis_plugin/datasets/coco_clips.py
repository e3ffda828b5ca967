"""COCO's images as pseudo-videos, to train on together with YouTube-VIS."""

from collections import defaultdict

import numpy as np
from mmdet.registry import DATASETS
from mmengine.logging import print_log
from pycocotools import mask as mask_utils
from tqdm import tqdm

from mmvis_plugin.ytvis.categories import CATEGORIES
from mmvis_plugin.ytvis.checks import Checks
from mmvis_plugin.ytvis.json_file import constants_message, parse_json, without_garbage_collection
from mmvis_plugin.ytvis.masks import to_rle
from mmvis_plugin.ytvis.problems import Problems, show
from mmvis_plugin.ytvis.rle import RLEError, mask_areas
from mmvis_plugin.ytvis.values import MAX_SIDE, is_side, is_text

from .youtube_vis import DatasetError, YTVISDataset

# Source: SeqFormer (Wu et al., ECCV 2022), whose repository has these as tables of ids, a bicycle
# being a motorbike there too. It also makes COCO's mouse, which lies beside computers, a fox (2019)
# or the animal (2021), and has no frisbee; both are set right here.
_SAME_NAME = (
    "person",
    "airplane",
    "train",
    "truck",
    "boat",
    "cat",
    "dog",
    "horse",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "snowboard",
    "skateboard",
    "surfboard",
)
_OTHER_NAME = {
    "bicycle": "motorbike",
    "motorcycle": "motorbike",
    "tennis racket": "tennis_racket",
}
COCO_TO_BENCHMARK = {
    "ytvis19": {**{name: name for name in _SAME_NAME}, **_OTHER_NAME, "car": "sedan"},
    "ytvis21": {
        **{name: name for name in _SAME_NAME},
        **_OTHER_NAME,
        "car": "car",
        "bird": "bird",
        "frisbee": "flying_disc",
    },
}


@DATASETS.register_module()
class COCOClips(YTVISDataset):
    """Images with COCO instance annotations as videos in which nothing moves, for training.

    Each image is a video of ``num_frames`` frames, all of them this image with these objects. The
    transform that chooses the frames of a clip is the same as for videos; :class:`LoadImageClip`
    after it makes each frame a random copy of the image. Costs do not depend on ``num_frames``.

    Objects of classes without a counterpart in the benchmark are left out, crowds are marked to be
    ignored, and so are images left out in which no other object remains or more than
    ``max_objects``. Boxes are those of the masks.

    ``classes`` and ``category_ids`` of the metainfo are those of the benchmark, so that
    ``ConcatDataset`` joins this dataset with the benchmark's :class:`YTVISDataset`. The samplers
    of this package visit each image once an epoch.

    Source: SeqFormer (Wu et al., ECCV 2022), joint training with COCO.

    Args:
        benchmark (str): 'ytvis19' or 'ytvis21', whose classes COCO's become. Defaults to
            'ytvis19'.
        category_map (dict[str, str], optional): Class of the benchmark by COCO's name, in place of
            the table for it. The benchmark may then be any of ``mmvis_plugin.ytvis.categories``.
        num_frames (int): Defaults to 36, the longest video of YouTube-VIS 2019.
        max_objects (int): Defaults to 25, as in the source.
        check_frames (str): Which image files must exist when the JSON is read: 'first' (of the
            dataset), 'all' or 'none'. Defaults to 'first'.
        **kwargs: As of :class:`YTVISDataset`, without ``test_mode``. ``metainfo.classes`` selects
            and orders classes of the benchmark by name.

    Raises:
        DatasetError: The JSON is broken, no image remains, or image files are missing; the message
            names the file, the image and the annotation.
        FileNotFoundError: There is no such JSON.
        ValueError: An argument is out of range, or a name in ``category_map`` is no class.
    """

    file_words = "image {video_id}: file {img_path}"

    def __init__(
        self,
        *args,
        benchmark: str = "ytvis19",
        category_map: dict[str, str] | None = None,
        num_frames: int = 36,
        max_objects: int = 25,
        **kwargs,
    ):
        if kwargs.get("test_mode"):
            raise ValueError("COCOClips is for training: test_mode must be False")
        if num_frames < 1 or max_objects < 1:
            raise ValueError(
                f"num_frames and max_objects must be at least 1, got {num_frames} and {max_objects}"
            )
        self.names = _benchmark_names(benchmark, category_map)
        if category_map is None:
            category_map = COCO_TO_BENCHMARK[benchmark]
        self.category_map = dict(category_map)
        unknown = sorted(set(self.category_map.values()).difference(self.names))
        if unknown:
            raise ValueError(f"category_map: {benchmark} has no class {', '.join(unknown)}")
        self.num_frames = num_frames
        self.max_objects = max_objects
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read and check the JSON.

        Returns:
            list[dict]: One dict an image, as of :class:`YTVISDataset` with a single frame in
            ``images``; ``video_id`` is COCO's id of the image.
        """
        with without_garbage_collection():
            content, constants = parse_json(self._read_file(), self.ann_file, keep_lists=False)
            checks = Checks(Problems(self.ann_file, collect=False))
            if constants:
                checks.error("json", constants_message(constants))
            if not isinstance(content, dict):
                checks.error("schema", f"the file must hold an object, got {show(content)}")
            categories: dict = {}
            checks.read_categories(checks.list_of(content, "categories"), categories)
            labels = self._map_classes(categories)
            images = self._parse_images(checks.list_of(content, "images"), checks)
            annotations = checks.annotations_of(content)
            objects = self._sort_annotations(annotations, images, labels, checks)
            self._check_image_files(images)
            # COCO takes about a minute, mostly for the masks of half a million polygons.
            progress = tqdm(
                objects.items(), desc=f"masks of {self.ann_file}", unit="image", delay=5
            )
            for image_id, raw_objects in progress:
                image = images[image_id]["images"][0]
                image["instances"] = self._parse_objects(image, raw_objects, labels)
        kept = [video for video in images.values() if self._is_usable(video["images"][0])]
        if not kept:
            raise DatasetError(
                f"{self.ann_file} has no image with 1 to {self.max_objects} objects of the classes "
                f"{', '.join(self.category_map)}"
            )
        print_log(
            f"{self.ann_file}: {len(kept)} of {len(images)} images used, the others have no object "
            f"of the classes or more than {self.max_objects}",
            "current",
        )
        return kept

    def _is_usable(self, image: dict) -> bool:
        num_objects = sum(not instance["ignore_flag"] for instance in image["instances"])
        return 0 < num_objects <= self.max_objects

    def _map_classes(self, categories: dict) -> dict[int, int | None]:
        """Set the class metainfo; map each of COCO's ids to a label, None if it has none."""
        classes = self._metainfo.get("classes") or self.names
        classes = (classes,) if isinstance(classes, str) else tuple(classes)
        unknown = [name for name in classes if name not in self.names]
        if unknown:
            raise DatasetError(
                f"metainfo.classes: the benchmark has no class {', '.join(map(repr, unknown))}; "
                f"its classes are {', '.join(self.names)}"
            )
        ids = tuple(self.names.index(name) + 1 for name in classes)
        self._metainfo.update(classes=classes, category_ids=ids)
        labels = {}
        for id_, coco_name in categories.items():
            name = self.category_map.get(coco_name)
            labels[id_] = classes.index(name) if name in classes else None
        if not any(label is not None for label in labels.values()):
            given = ", ".join(list(categories.values())[:100])
            raise DatasetError(
                f"{self.ann_file}: none of its categories ({given}) is one of "
                f"{', '.join(self.category_map)}"
            )
        return labels

    def _parse_images(self, raw_images: list, checks: Checks) -> dict[int, dict]:
        videos = {}
        for i, raw in enumerate(raw_images):
            checks.has_keys(raw, ("id", "width", "height", "file_name"), f"images[{i}]")
            checks.is_id(raw["id"], "id", f"images[{i}]")
            where = f"image {raw['id']}"
            if raw["id"] in videos:
                checks.error("duplicate_id", f"{where}: this id is used by two images")
            if not is_text(raw["file_name"]):
                found = show(raw["file_name"])
                checks.error("schema", f"{where}: 'file_name' must be a text, got {found}")
            for key in ("width", "height"):
                if not is_side(raw[key]):
                    message = f"{key!r} must be a whole number from 1 to {MAX_SIDE}, got "
                    checks.error("size", f"{where}: {message}{show(raw[key])}")
            image = dict(height=int(raw["height"]), width=int(raw["width"]), instances=[])
            videos[raw["id"]] = dict(
                video_id=raw["id"], video_length=self.num_frames, images=[image]
            )
        paths = self._frame_paths([raw["file_name"] for raw in raw_images])
        for video, path in zip(videos.values(), paths, strict=True):
            video["images"][0]["img_path"] = path
        return videos

    def _check_image_files(self, videos: dict[int, dict]) -> None:
        if self.check_frames == "first":
            videos = dict(list(videos.items())[:1])
        self._check_frame_files(videos.values())

    def _sort_annotations(self, annotations, videos, labels, checks) -> dict[int, list[dict]]:
        """The annotations of classes that are used, by image."""
        seen, by_image = set(), defaultdict(list)
        keys = ("id", "image_id", "category_id", "segmentation")
        for i, raw in enumerate(annotations):
            what = f"annotations[{i}]"
            checks.has_keys(raw, keys, what)
            for key in keys[:3]:
                checks.is_id(raw[key], key, what)
            where = self._where(raw)
            if raw["id"] in seen:
                checks.error("duplicate_id", f"{where}: this id is used by two annotations")
            seen.add(raw["id"])
            checks.is_crowd_flag(raw, f"{where}: ")
            for name, table in (("image", videos), ("category", labels)):
                checks.look_up(table, name, raw[f"{name}_id"], f"{where}: ")
            if labels[raw["category_id"]] is not None:
                by_image[raw["image_id"]].append(raw)
        return by_image

    def _where(self, raw: dict) -> str:
        return f"image {raw['image_id']}: annotation {raw['id']}"

    def _parse_objects(self, image: dict, raw_objects: list[dict], labels: dict) -> list[dict]:
        height, width = image["height"], image["width"]
        rles = []
        try:
            for raw in raw_objects:
                rles.append(to_rle(raw["segmentation"], height, width))
            areas = mask_areas([rle["counts"] for rle in rles], height, width)
        except RLEError as error:
            number = len(rles) if error.index is None else error.index
            where = self._where(raw_objects[number])
            raise DatasetError(f"{self.ann_file}: {where}: the segmentation: {error}") from error
        boxes = mask_utils.toBbox(rles).astype(np.float64)
        boxes[:, 2:] += boxes[:, :2]
        visible = [i for i, area in enumerate(areas) if area]
        return [
            dict(
                bbox=boxes[i].tolist(),
                bbox_label=labels[raw_objects[i]["category_id"]],
                mask=rles[i],
                instance_id=instance_id,
                ignore_flag=int(bool(raw_objects[i].get("iscrowd", 0))),
            )
            for instance_id, i in enumerate(visible)
        ]

    def get_data_info(self, idx: int) -> dict:
        """The video an image is, with all its frames; their lists of objects are one list."""
        video = super().get_data_info(idx)
        (image,) = video["images"]
        first_id = video["sample_idx"] * self.num_frames
        video["images"] = [
            dict(image, frame_id=frame, img_id=first_id + frame) for frame in range(self.num_frames)
        ]
        return video

    def key_frames(self) -> np.ndarray:
        """The middle frame of each video: every transform finds neighbours on both sides of it.

        Returns:
            np.ndarray: int64, shape (n, 2), rows of (video index, frame index), ascending.
        """
        videos = np.arange(len(self), dtype=np.int64)
        return np.stack([videos, np.full_like(videos, self.num_frames // 2)], axis=1)


def _benchmark_names(benchmark: str, category_map: dict | None) -> tuple[str, ...]:
    known = COCO_TO_BENCHMARK if category_map is None else CATEGORIES
    if benchmark not in known:
        raise ValueError(
            f"benchmark must be one of {', '.join(known)}, got {benchmark!r}"
            + ("; another one needs a category_map" if category_map is None else "")
        )
    return CATEGORIES[benchmark]
