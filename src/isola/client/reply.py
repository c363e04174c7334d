"""The envelope of the API: ``sync``, ``async`` or ``error``."""

from __future__ import annotations

from isola.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isola.client.http import Response


class Reply:
    """A successful response."""

    def __init__(self, status: int, headers: dict[str, str], metadata: object, operation: str) -> None:
        self.status = status
        self.headers = headers
        self.metadata = metadata
        self.operation = operation
        """Path of the operation that was started, or empty."""

    @property
    def etag(self) -> str:
        """For ``If-Match`` of a later PUT, or empty."""
        return self.headers.get("etag", "")

    @classmethod
    def read(cls, response: Response, path: str = "") -> Reply:
        """Read the body. Raises the error in it, with the ``path`` asked for, and BadReply if it is malformed."""
        data = response.read()
        try:
            body = json.decode(data)
        except ValueError as error:
            raise _not_the_api(response.status, data, str(error)) from None
        if not isinstance(body, dict) or body.get("type") not in ("sync", "async", "error"):
            raise _not_the_api(response.status, data)
        if body["type"] == "error" or response.status >= 400:
            from isola.client.failures import from_reply

            code = body.get("error_code")
            status = code if isinstance(code, int) and code >= 400 else response.status
            answered = from_reply(status, str(body.get("error") or ""), body.get("metadata"))
            answered.path = path
            raise answered
        return cls(response.status, response.headers, body.get("metadata"), str(body.get("operation") or ""))


def _not_the_api(status: int, data: bytes, why: str = "") -> Exception:
    from isola.client.failures import BadReply, from_reply

    shown = data[:200].decode(errors="replace")
    if status >= 400:
        return from_reply(status, "", {"evidence": shown})
    return BadReply("The response does not conform to the API", evidence=f"{why}: {shown}" if why else repr(shown))
