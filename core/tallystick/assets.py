"""Files that plugins show to anybody: pages, scripts, pictures out of their packages, and nothing of any tenant.

They run under a policy that loads nothing from elsewhere and no script that is not such a file.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import attrs
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from .errors import NotFound
from .manifest import Manifest
from .problems import MEDIA_TYPE, choose_language, problem_document

#: What a browser may be given, by the file's suffix.
MEDIA: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
#: Bytes of one file.
LARGEST: Final = 8 * 1024 * 1024
_encode = msgspec.json.Encoder(order="deterministic").encode
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "font-src 'self'; media-src 'self' blob:; manifest-src 'self'; worker-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), xr-spatial-tracking=(self)",
    "cache-control": "no-cache",  # asked again each time, answered without a body: an upgrade shows at once
    "vary": "accept-encoding",
}


@attrs.frozen(kw_only=True)
class Shelf:
    """A folder of one plugin, below a path."""

    plugin: str
    path: str
    folder: Path

    async def answer(self, request: Request) -> Response:
        """One file, or that there is none."""
        try:
            found = await run_in_threadpool(
                read, self.folder, request.path_params["file"], "gzip" in request.headers.get("accept-encoding", "")
            )
        except NotFound as error:
            language = choose_language(request.headers.get("accept-language", ""))
            return Response(_encode(problem_document(error, language)), 404, _HEADERS, MEDIA_TYPE)
        headers = {**_HEADERS, "etag": found.etag, **({"content-encoding": "gzip"} if found.compressed else {})}
        if request.headers.get("if-none-match") == found.etag:
            return Response(b"", 304, headers)
        return Response(found.body, 200, headers, found.media)


@attrs.frozen(kw_only=True)
class Asset:
    """A file as it goes out."""

    body: bytes
    media: str
    etag: str
    compressed: bool = False


def shelves(manifests: Mapping[str, Manifest]) -> list[Shelf]:
    """The folders of all plugins that show any."""
    return [
        Shelf(plugin=name, path=each.path, folder=manifest.root / each.folder)
        for name, manifest in manifests.items()
        for each in manifest.assets
        if manifest.root is not None
    ]


def read(folder: Path, name: str, compressed: bool = False) -> Asset:
    """The file *name* below *folder*; ``index.html`` where a folder is asked for.

    Large files may be kept compressed, as ``name.gz`` alone.  Raises NotFound for whatever lies elsewhere, is of no kind
    that browsers are given, or does not exist.
    """
    name = f"{name}index.html" if name == "" or name.endswith("/") else name
    parts = name.split("/")
    media = MEDIA.get(Path(name).suffix)
    if media is None or len(name) > 200 or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise NotFound("there is no such file")
    file = folder.joinpath(*parts)
    packed = file.with_name(file.name + ".gz")
    chosen = packed if packed.is_file() and (compressed or not file.is_file()) else file
    try:
        if not chosen.resolve().is_relative_to(folder.resolve()) or not chosen.is_file():
            raise NotFound("there is no such file")
        status = chosen.stat()
    except (OSError, ValueError):
        raise NotFound("there is no such file") from None
    return _read(
        chosen, media, chosen is packed and not compressed, status.st_mtime_ns, chosen is packed and compressed
    )


@lru_cache(256)
def _read(file: Path, media: str, unpack: bool, _changed: int, compressed: bool) -> Asset:
    body = file.read_bytes()
    if unpack:
        body = gzip.decompress(body)
    if len(body) > LARGEST:
        raise NotFound("there is no such file")
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Asset(body=body, media=media, etag=etag, compressed=compressed)
