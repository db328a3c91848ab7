"""What one batch pins while it is pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from joblib_clutch.blobs import Blob, BlobCache


class Pins:
    """The blobs that were pinned while one batch was pickled.

    Parameters
    ----------
    cache : BlobCache
        Whose blobs.

    Attributes
    ----------
    blobs : list of Blob
        One entry for each pin.
    """

    def __init__(self, cache: BlobCache) -> None:
        self.cache = cache
        self.blobs: list[Blob] = []

    def get(
        self,
        key: Hashable,
        thing: object,
        fits: Callable[[Blob], bool],
        put: Callable[[Blob], object],
    ) -> Blob:
        """Pin the blob of a thing, and put it unless somebody has.

        Parameters
        ----------
        key : hashable
            As for `BlobCache.pin`.
        thing : object
            As for `BlobCache.pin`.
        fits : callable
            Whether a blob that was put earlier by this key is the thing's.
        put : callable
            Puts the blob, or decides not to.

        Returns
        -------
        Blob
            Put, unless `put` decided not to.
        """
        blob = self.cache.pin(key, thing)
        self.blobs.append(blob)
        while True:
            with blob.lock:
                if not blob.blob_id:
                    put(blob)
                    return blob
                if fits(blob):
                    return blob
            blob = self.cache.replace(blob, thing)
            self.blobs.append(blob)

    def keep_only(self, used: Iterable[Blob]) -> list[Blob]:
        """Unpin what is not used; return what is, each pinned once."""
        kept = dict.fromkeys(used)
        rest = list(self.blobs)
        for blob in kept:
            rest.remove(blob)
        if rest:
            self.cache.unpin(rest)
        return list(kept)
