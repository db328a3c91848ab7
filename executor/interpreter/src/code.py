"""Unpacks code of the driver into the session's directory.

An archive comes from outside, so nothing in it is believed: not its names, not
its sizes.
"""

import fcntl
import mmap
import os
import stat
import sys
from typing import Any

# Bounds of one archive, unpacked.
MAX_FILES = 50_000
MAX_BYTES = 2 << 30
MAX_NAME_BYTES = 1024
_PIECE_BYTES = 1 << 20
# What Clutch itself runs on in a worker stays as it is.
_OURS = frozenset({"cloudpickle", "joblib", "joblib_clutch", "threadpoolctl"})


def unpack(directory: str, archives: list[tuple[int, int, str]]) -> list[str]:
    """Unpack archives, given as (descriptor, length, name), each unless it was unpacked before.

    Returns the paths of the directories into which they were unpacked.
    """
    paths = []
    for descriptor, length, name in archives:
        path = os.path.join(directory, name)
        if not os.path.isdir(path):
            _unpack_once(descriptor, length, path)
        paths.append(path)
    return paths


def put_first(paths: list[str]) -> None:
    """Put directories at the beginning of the search path."""
    first = list(dict.fromkeys(paths))
    sys.path[:] = first + [entry for entry in sys.path if entry not in first]
    for path in first:
        _forget_others(path)


def _unpack_once(descriptor: int, length: int, path: str) -> None:
    # Workers that start together wait for the first. Its lock ends with it, and
    # what it then leaves is removed by the next.
    with open(path + ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(path):
            return
        # Only where it is needed: it takes milliseconds to import.
        import shutil

        part = path + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part, 0o700)
        # By itself: the offset of the descriptor is every worker's.
        with _File(descriptor, length, access=mmap.ACCESS_READ) as file:
            extract(file, part)
        os.rename(part, path)


def extract(file: Any, directory: str) -> None:
    """Unpack a zip archive into an empty directory, believing nothing of it."""
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise ValueError(
                    f"an archive of the driver's code has {len(entries)} entries, more than {MAX_FILES}"
                )
            left = MAX_BYTES
            for entry in entries:
                parts = _parts(entry)
                target = os.path.join(directory, *parts)
                if entry.is_dir():
                    os.makedirs(target, exist_ok=True)
                    continue
                os.makedirs(os.path.dirname(target), exist_ok=True)
                left = _copy(archive, entry, target, left)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(
            f"an archive of the driver's code cannot be unpacked: {error!r}"
        ) from error


def _parts(entry: Any) -> list[str]:
    name = entry.filename
    parts = name.rstrip("/").split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        why = "is neither a file nor a directory"
    elif len(os.fsencode(name)) > MAX_NAME_BYTES:
        why = f"has a name of more than {MAX_NAME_BYTES} bytes"
    elif "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        why = "leads out of its directory, or has no plain name"
    else:
        return parts
    raise ValueError(f"an archive of the driver's code has an entry {name[:200]!r} that {why}")


def _copy(archive: Any, entry: Any, target: str, left: int) -> int:
    """Unpack one file; gives how many bytes may still come."""
    mode = 0o755 if (entry.external_attr >> 16) & stat.S_IXUSR else 0o644
    # A name that is there twice fails here.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with archive.open(entry) as source, open(os.open(target, flags, mode), "wb") as file:
        while piece := source.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise ValueError(
                    f"an archive of the driver's code unpacks to more than {MAX_BYTES} bytes"
                )
            file.write(piece)
    return left


def _forget_others(directory: str) -> None:
    """Forget modules that the zygote has by names that the directory has too.

    Not those with compiled parts: they cannot be loaded a second time.
    """
    for entry in os.listdir(directory):
        name = entry.partition(".")[0]
        module = sys.modules.get(name)
        if module is None or name in _OURS or name in sys.stdlib_module_names:
            continue
        family = [key for key in sys.modules if key == name or key.startswith(name + ".")]
        files = [getattr(sys.modules[key], "__file__", None) or "" for key in family]
        if any(file.startswith(directory + os.sep) for file in files):
            continue
        if name != "__main__" and all(
            file == "" or file.endswith((".py", ".pyc")) for file in files
        ):
            for key in family:
                del sys.modules[key]


class _File(mmap.mmap):
    """A map that says of itself what files say; before Python 3.13 it does not."""

    def seekable(self) -> bool:
        return True
