"""Files that cannot be read as images: a run goes on without them, says so, and stops when there are too many."""

import logging
from collections.abc import Mapping

from soft.errors import SettingError

log = logging.getLogger(__name__)


class UnreadableImageError(ValueError):
    """A file that is no image, or a damaged one.

    Attributes:
        name: of the file.
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name} cannot be read as an image: {reason}")
        self.name = name
        self.reason = reason


class BadImages:
    """The unreadable files that one process has met; each is logged and counted once, however often it comes.

    Args:
        limit: the number of files that are skipped; one more is an error.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.reasons: dict[str, str] = {}

    def add(self, reasons: Mapping[str, str], instead: str) -> None:
        """Count files, and log those that are new.

        Args:
            reasons: what is wrong with each file, by its name.
            instead: a sentence that says what happens without it.

        Raises:
            SettingError: there are more than `limit` now.
        """
        for name, reason in reasons.items():
            if name in self.reasons:
                continue
            self.reasons[name] = reason
            count = len(self.reasons)
            if count > self.limit:
                raise SettingError(
                    f"{name} cannot be read as an image: {reason}. That is bad image number {count} with "
                    f"`data.max_bad_images`={self.limit}. Mend or delete what src/verify_data.py lists, or raise the "
                    "limit."
                )
            log.warning(
                "%s cannot be read as an image: %s. %s (%d of at most max_bad_images=%d)",
                name,
                reason,
                instead,
                count,
                self.limit,
            )
