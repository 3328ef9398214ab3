"""A file system that loses power: what was not synced may be gone, in part, in any order, torn at sectors.

    python -m tests.reliability.powerloss MOUNT IMAGES CUTS SEED [FOLDER]

It lives in memory, and holds a copy of FOLDER at first.  Once somebody has written to a file called ``acks``, power is cut
after random further writes and syncs: what a disk could hold at that moment is written to ``IMAGES/<n>/``, with the acks
written so far.  The system below goes on as if nothing had happened, so that one run gives as many cuts as are asked for.

Names (made, moved, removed) are kept as a journaling file system keeps them: in their order, and all that came before a
sync with it.  A file called ``faults`` may be written with ``ENOSPC 5``: the next five writes fail so, ``EIO 5``: the next
five syncs.
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

    def __init__(self, mode: int, content: bytes = b"") -> None:
        self.mode = mode
        self.seen = bytearray(content)
        self.safe = bytearray(content)
        self.since: list[tuple[str, int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        _put(self.seen, data, offset)
        self.since.append(("write", offset, data))

    def truncate(self, length: int) -> None:
        _cut(self.seen, length)
        self.since.append(("truncate", length, b""))

    def sync(self) -> None:
        if self.since:
            self.safe[:] = self.seen
            self.since.clear()

    def after_power_loss(self, chance: random.Random, torn: bool) -> bytes:
        """One of the contents that the disk may have: any part of what was not synced, in its order, sectors torn."""
        if not self.since:
            return self.safe
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
        return found


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

    def __init__(self, images: Path, cuts: int, seed: int, folder: Path | None = None) -> None:
        self.names: dict[str, File | None] = {"/": None}  #: folders hold nothing of their own
        self.safe_names = dict(self.names)
        self.renamed: list[dict[str, File | None]] = []  #: how the names stood after each change since the last sync
        self.images, self.left = images, cuts
        self.chance = random.Random(seed)
        self.often = 12 if folder is None else 120  #: so many writes and syncs lie between two cuts at most
        self.countdown = 5
        self.made = 0
        self.now = time.time_ns()
        self.failing = {"ENOSPC": 0, "EIO": 0}
        self.owner = os.getuid(), os.getgid()
        if folder is not None:
            self.owner = folder.stat().st_uid, folder.stat().st_gid
            for path in sorted(folder.rglob("*")):
                file = None if path.is_dir() else File(stat.S_IMODE(path.stat().st_mode), path.read_bytes())
                self.names[f"/{path.relative_to(folder)}"] = file
            self.safe_names = dict(self.names)

    # -- power ------------------------------------------------------------------------------------------------------

    def happened(self) -> None:
        if "/acks" not in self.names or not self.left:
            return
        self.countdown -= 1
        if self.countdown <= 0:
            self.countdown = self.chance.randrange(1, self.often)
            self.left -= 1
            self.cut()

    def cut(self) -> None:
        """Write down what a disk could hold now."""
        folder = self.images / f".{self.made}"
        folder.mkdir(mode=0o700)
        torn = self.chance.random() < 0.5
        for path, file in self.chance.choice([self.safe_names, *self.renamed]).items():
            if file is None:
                (folder / path[1:]).mkdir(mode=0o700, exist_ok=True, parents=True)
            elif not path.endswith(("-shm", "/postmaster.pid")):  # no process survives, nor its memory
                image = folder / path[1:]
                image.write_bytes(file.after_power_loss(self.chance, torn))
                image.chmod(file.mode)
                os.chown(image, *self.owner)
        acks = self.names["/acks"]
        assert acks is not None
        (folder / "acks").write_bytes(acks.seen)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, *self.owner)
        folder.rename(self.images / f"{self.made}")
        self.made += 1

    def synced(self) -> None:
        """Whatever happened to names before a sync is on the disk with it."""
        self.safe_names = dict(self.names)
        self.renamed.clear()

    def named(self) -> None:
        self.renamed.append(dict(self.names))

    def fails(self, error: str) -> None:
        if self.failing[error]:
            self.failing[error] -= 1
            raise mfusepy.FuseOSError(getattr(errno, error))

    # -- what the system asks ---------------------------------------------------------------------------------------

    def _file(self, path: str) -> File:
        file = self.names.get(path)
        if file is None:
            raise mfusepy.FuseOSError(errno.EISDIR if path in self.names else errno.ENOENT)
        return file

    def _inside(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return [name for name in self.names if name.startswith(prefix) and name != "/"]

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        if path not in self.names:
            raise mfusepy.FuseOSError(errno.ENOENT)
        uid, gid = self.owner
        found = {"st_ctime": self.now, "st_mtime": self.now, "st_atime": self.now, "st_uid": uid, "st_gid": gid}
        file = self.names[path]
        if file is None:
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **found}
        return {"st_mode": stat.S_IFREG | file.mode, "st_nlink": 1, "st_size": len(file.seen), **found}

    def readdir(self, path: str, fh: Any) -> list[str]:
        length = len(path.rstrip("/")) + 1
        return [".", "..", *[name[length:] for name in self._inside(path) if "/" not in name[length:]]]

    def mkdir(self, path: str, mode: int) -> int:
        self.names[path] = None
        self.named()
        return 0

    def rmdir(self, path: str) -> int:
        if self._inside(path):
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        del self.names[path]
        self.named()
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self.names[path] = File(stat.S_IMODE(mode))
        self.named()
        return 0

    def open(self, path: str, flags: int) -> int:
        self._file(path)
        return 0

    def read(self, path: str, size: int, offset: int, fh: Any) -> bytes:
        return bytes(self._file(path).seen[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: Any) -> int:
        if path == "/faults":
            error, times = bytes(data).decode().split()
            self.failing[error] = int(times)
            return len(data)
        if path != "/acks":
            self.fails("ENOSPC")
        self._file(path).write(bytes(data), offset)
        self.happened()
        return len(data)

    def truncate(self, path: str, length: int, fh: Any = None) -> int:
        self._file(path).truncate(length)
        self.happened()
        return 0

    def fsync(self, path: str, datasync: int, fh: Any) -> int:
        self.fails("EIO")
        self.happened()
        self._file(path).sync()
        self.synced()
        self.happened()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: Any) -> int:
        self.synced()
        return 0

    def flush(self, path: str, fh: Any) -> int:
        return 0

    def unlink(self, path: str) -> int:
        self._file(path)
        del self.names[path]
        self.named()
        return 0

    def rename(self, old: str, new: str) -> int:
        if old not in self.names:
            raise mfusepy.FuseOSError(errno.ENOENT)
        for name in self._inside(old):
            self.names[new + name[len(old) :]] = self.names.pop(name)
        self.names[new] = self.names.pop(old)
        self.named()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        file = self.names[path]
        if file is not None:
            file.mode = stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bfree": 1 << 20, "f_bavail": 1 << 20}


if __name__ == "__main__":
    mount, images, cuts, seed, *folder = sys.argv[1:]
    # the kernel need not ask again what nobody but itself can change; a server runs as another user
    patience = 60 if folder else 0
    others = {"allow_other": True} if folder and os.geteuid() == 0 else {}
    mfusepy.FUSE(
        PowerLoss(Path(images), int(cuts), int(seed), *map(Path, folder)),
        mount,
        foreground=True,
        nothreads=True,
        fsname="powerloss",
        entry_timeout=patience,
        attr_timeout=patience,
        **others,
    )
