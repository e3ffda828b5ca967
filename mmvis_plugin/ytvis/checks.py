"""Checks that all annotation files share, whatever an item of them is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .problems import Problems, show
from .values import MAX_ID, is_id, is_text

MAX_CATEGORIES = 2**16  # no dataset has a quarter of it


class Checks:
    """Checks parts of a file and says what is wrong with them.

    Args:
        problems: Notes or raises what is found.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.error, self.warning = problems.error, problems.warning
        self.faulty: set[tuple[str, int | str]] = set()  # of which nothing more is to be said

    def list_of(self, content: dict, key: str) -> list:
        """The list under a key, which must be there and not be empty."""
        items = content.get(key)
        if isinstance(items, list) and items:
            return items
        found = f"got {show(items)}" if key in content else "which is missing"
        self.error("schema", f"{key!r} must be a list that is not empty, {found}")
        return []

    def annotations_of(self, content: dict) -> list:
        """The list of annotations; the official files without any have null, or leave it out."""
        items = content.get("annotations")
        if isinstance(items, list | None):
            return items or []
        self.error("schema", f"'annotations' must be a list, null or missing, got {show(items)}")
        return []

    def read_categories(self, items: list, categories: dict) -> None:
        """Add the names of the categories to a dict, by id."""
        if len(items) > MAX_CATEGORIES:
            found = f"at most {MAX_CATEGORIES} are expected"
            self.error("schema", f"there are {len(items)} categories, {found}")
            return
        names: set[str] = set()
        for index, item in enumerate(items):
            what = f"categories[{index}]"
            if not self.has_keys(item, ("id", "name"), what):
                continue
            id_, class_name = item["id"], item["name"]
            if not self.is_id(id_, "id", what):
                continue
            if not is_text(class_name):
                self.faulty.add(("category", id_))
                self.error("schema", f"{what}: 'name' must be a text, got {show(class_name)}")
                continue
            if id_ in categories:
                self.error("duplicate_id", f"{what}: the id {show(id_)} is used by two categories")
                continue
            if class_name in names:
                self.faulty.add(("category", id_))
                found = f"the name {show(class_name)} is used by two categories"
                self.error("duplicate_id", f"{what}: {found}")
                continue
            names.add(class_name)
            categories[id_] = class_name
        self._warn_of_similar(names)

    def _warn_of_similar(self, names: Iterable[str]) -> None:
        by_key: dict[str, str] = {}
        for class_name in names:
            other = by_key.setdefault("".join(class_name.split()).casefold(), class_name)
            if other != class_name:
                both = " and ".join(sorted(map(show, (other, class_name))))
                message = f"the class names {both} differ in case or spaces only"
                self.warning("similar_names", message)

    def has_keys(self, record: Any, keys: Sequence[str], what: str, **where) -> bool:
        """Whether something is an object with these keys."""
        if not isinstance(record, dict):
            self.error("schema", f"{what} must be an object, got {show(record)}", **where)
            return False
        missing = [key for key in keys if key not in record]
        if missing:
            if "video_id" in keys:
                known = (("video", "video_id"), ("annotation", "id"))
                where = {k: record[v] for k, v in known if is_id(record.get(v))}
            names = ", ".join(map(repr, missing))
            self.error("schema", f"{what} has no {names}", **where)
        return not missing

    def is_id(self, value: Any, key: str, what: str) -> bool:
        """Whether a value can be an id."""
        if not is_id(value):
            message = f"{what}: {key!r} must be a whole number or a text, got {show(value)}"
            if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_ID:
                message += f": write {int(value)}"
            self.error("schema", message)
            return False
        return True

    def look_up(
        self, table: dict, what: str, id_: int | str, prefix: str = "", **where
    ) -> Any | None:
        """What a table has under an id, None if it has nothing."""
        found = table.get(id_)
        if id_ not in table and (what, id_) not in self.faulty:
            message = f"{prefix}there is no {what} with the {what}_id {show(id_)}"
            other = _as_other_type(table, id_)
            if other is not None:
                message += f", but there is {show(other)}: write ids as {_TYPE_WORDS[type(other)]}"
            self.error(f"unknown_{what}", message, **where)
        return found

    def is_crowd_flag(self, item: dict, prefix: str = "", **where) -> bool:
        """Whether an annotation's ``iscrowd`` is one of the values it may have, or missing."""
        crowd = item.get("iscrowd", 0)
        if type(crowd) in (int, bool) and crowd in (0, 1):
            return True
        message = f"{prefix}'iscrowd' must be 0, 1, true or false, got {show(crowd)}"
        self.error("schema", message, **where)
        return False


_TYPE_WORDS = {int: "numbers", str: "texts"}


def _as_other_type(table: dict, id_: int | str) -> int | str | None:
    """The id of the table that is the same text or number as an id of the other type."""
    try:
        other = int(id_) if isinstance(id_, str) else str(id_)
    except ValueError:
        return None
    return other if other in table else None
