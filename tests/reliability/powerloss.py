"""A file system that loses power: what was not fsynced may be gone, in part, in any order, torn at sectors.

    python -m tests.reliability.powerloss MOUNT IMAGES CUTS SEED

It lives in memory.  Once somebody has written to a file called ``acks``, power is cut after random further writes and
syncs: what a disk could hold at that moment is written to ``IMAGES/<n>/``, with the acks written so far.  The system
below goes on as if nothing had happened, so that one run gives as many cuts as are asked for.
"""

# ruff: noqa: ARG002 - FUSE fixes what its callbacks are called with
import errno
import os
import random
import stat
import sys
import time
from pathlib import Path
from typing import Any

import mfusepy

SECTOR = 512


class File:
    """What is in a file for its readers, what of it is on the disk, and what was done since the last fsync."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.seen = bytearray()
        self.safe = bytearray()
        self.since: list[tuple[str, int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        _put(self.seen, data, offset)
        self.since.append(("write", offset, data))

    def truncate(self, length: int) -> None:
        _cut(self.seen, length)
        self.since.append(("truncate", length, b""))

    def sync(self) -> None:
        self.safe[:] = self.seen
        self.since.clear()

    def after_power_loss(self, chance: random.Random, torn: bool) -> bytes:
        """One of the contents that the disk may have: any part of what was not synced, in its order, sectors torn."""
        found = bytearray(self.safe)
        keep = chance.random()
        for what, place, data in self.since:
            if chance.random() > keep:
                continue
            if what == "truncate":
                _cut(found, place)
            elif torn:
                for start in range(0, len(data), SECTOR):
                    if chance.random() < 0.7:
                        _put(found, data[start : start + SECTOR], place + start)
            else:
                _put(found, data, place)
        return bytes(found)


def _put(where: bytearray, data: bytes, offset: int) -> None:
    if len(where) < offset:
        where.extend(bytes(offset - len(where)))
    where[offset : offset + len(data)] = data


def _cut(where: bytearray, length: int) -> None:
    if length < len(where):
        del where[length:]
    else:
        where.extend(bytes(length - len(where)))


class PowerLoss(mfusepy.Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, images: Path, cuts: int, seed: int) -> None:
        self.files: dict[str, File] = {}
        self.images, self.left = images, cuts
        self.chance = random.Random(seed)
        self.countdown = 5
        self.made = 0
        self.now = time.time_ns()

    def happened(self) -> None:
        if "/acks" not in self.files or not self.left:
            return
        self.countdown -= 1
        if self.countdown <= 0:
            self.countdown = self.chance.randrange(1, 12)
            self.left -= 1
            folder = self.images / f".{self.made}"
            folder.mkdir()
            torn = self.chance.random() < 0.5
            for path, file in self.files.items():
                content = bytes(file.seen) if path == "/acks" else file.after_power_loss(self.chance, torn)
                if not path.endswith("-shm"):
                    (folder / path[1:]).write_bytes(content)
            folder.rename(self.images / f"{self.made}")
            self.made += 1

    def _file(self, path: str) -> File:
        try:
            return self.files[path]
        except KeyError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        times = {
            "st_ctime": self.now,
            "st_mtime": self.now,
            "st_atime": self.now,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, **times}
        file = self._file(path)
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": len(file.seen), **times}

    def readdir(self, path: str, fh: Any) -> list[str]:
        return [".", "..", *[name[1:] for name in self.files]]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.files[path] = File(mode)
        return 0

    def open(self, path: str, flags: int) -> int:
        self._file(path)
        return 0

    def read(self, path: str, size: int, offset: int, fh: Any) -> bytes:
        return bytes(self._file(path).seen[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: Any) -> int:
        self._file(path).write(bytes(data), offset)
        self.happened()
        return len(data)

    def truncate(self, path: str, length: int, fh: Any = None) -> int:
        self._file(path).truncate(length)
        self.happened()
        return 0

    def fsync(self, path: str, datasync: int, fh: Any) -> int:
        self.happened()
        self._file(path).sync()
        self.happened()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: Any) -> int:
        return 0

    def flush(self, path: str, fh: Any) -> int:
        return 0

    def unlink(self, path: str) -> int:
        self._file(path)
        del self.files[path]
        return 0

    def rename(self, old: str, new: str) -> int:
        self.files[new] = self._file(old)
        del self.files[old]
        return 0

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bfree": 1 << 20, "f_bavail": 1 << 20}


if __name__ == "__main__":
    mount, images, cuts, seed = sys.argv[1:]
    mfusepy.FUSE(
        PowerLoss(Path(images), int(cuts), int(seed)),
        mount,
        foreground=True,
        nothreads=True,
        fsname="powerloss",
        entry_timeout=0,
        attr_timeout=0,
    )
