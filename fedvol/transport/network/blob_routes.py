"""The routes by which weights go down and come up, resumed where a link was cut.

GET   /fedvol/v1/blobs/DIGEST     a blob the server gives out; `Range` is honoured
HEAD  /fedvol/v1/uploads/DIGEST   how much of the caller's blob is here: `Upload-Offset`
PATCH /fedvol/v1/uploads/DIGEST   bytes from `Upload-Offset` on; 201 once it is whole,
                                  409 where they do not go on there
"""

from collections.abc import AsyncIterator
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from fedvol.errors import BlobElsewhereError, BlobRefusedError, CallRefusedError, StoreError
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.calls import Call, CallGuard
from fedvol.types import Digest, SiteId

OFFSET = "upload-offset"
COMPLETE = "upload-complete"
"""Header that is `1` with the last bytes of a blob."""

ELSEWHERE = 409
"""Status of bytes that do not follow those that are here; the caller asks where to go on."""

_BLOB = "/fedvol/v1/blobs/{digest}"
_UPLOAD = "/fedvol/v1/uploads/{digest}"


def blob_routes(folder: BlobFolder, guard: CallGuard) -> list[Route]:
    """The routes.

    Args:
        folder: Where the weights lie.
        guard: Lets sites through.
    """

    def admitted(request: Request) -> Call:
        return guard.admit(request.headers, method=request.method, path=request.url.path)

    async def give(request: Request) -> Response:
        try:
            admitted(request)
            path = folder.down(Digest(request.path_params["digest"]))
        except CallRefusedError:
            return Response(status_code=401)
        except BlobRefusedError:
            return Response(status_code=404)
        except StoreError:
            return Response(status_code=507)
        if not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, media_type="application/octet-stream")

    async def tell(request: Request) -> Response:
        try:
            call = admitted(request)
            digest = Digest(request.path_params["digest"])
            offset, is_whole = folder.offset(SiteId(call.site), digest)
        except CallRefusedError:
            return Response(status_code=401)
        except BlobRefusedError:
            return Response(status_code=404)
        except StoreError:
            return Response(status_code=507)
        return Response(headers={OFFSET: str(offset), COMPLETE: "1" if is_whole else "0"})

    async def take(request: Request) -> Response:
        try:
            call = admitted(request)
        except CallRefusedError:
            return Response(status_code=401)
        except StoreError:
            return Response(status_code=507)
        site, digest = SiteId(call.site), Digest(request.path_params["digest"])
        if request.headers.get("content-length") != str(call.size_bytes) or call.offset is None:
            return Response(status_code=400)
        try:
            with folder.appending(
                site, digest, offset=call.offset, size_bytes=call.size_bytes
            ) as file:
                await _append(file, request.stream(), limit_bytes=call.size_bytes)
            if request.headers.get(COMPLETE) != "1":
                return Response(status_code=204)
            await run_in_threadpool(folder.close_part, site, digest)
            return Response(status_code=201)
        except BlobElsewhereError:
            return Response(status_code=ELSEWHERE)
        except BlobRefusedError:
            return Response(status_code=422)
        except StoreError:
            return Response(status_code=507)
        except ClientDisconnect:
            return Response(status_code=400)

    return [
        Route(_BLOB, give, methods=["GET"]),
        Route(_UPLOAD, tell, methods=["HEAD"]),
        Route(_UPLOAD, take, methods=["PATCH"]),
    ]


async def _append(file: BinaryIO, chunks: AsyncIterator[bytes], *, limit_bytes: int) -> None:
    """Append what comes; what came before a cut stays."""
    left = limit_bytes
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise BlobRefusedError("blob", "more bytes came than were announced", "Stop.")
        await run_in_threadpool(_write, file, chunk)


def _write(file: BinaryIO, chunk: bytes) -> None:
    """Write all of it; an unbuffered file may take less at a time."""
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]
