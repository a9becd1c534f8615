"""Who may use the page: strangers are refused before any route runs."""

import base64
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HEADER = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
MAX_BODY_BYTES = 4096
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses strangers before any route runs, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self._app = app
        self._password = None if password is None else password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401, 403, 413, 415 or 421."""
        caching = "no-cache" if scope["path"].startswith("/static/") else "no-store"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({**HEADERS, "Cache-Control": caching})
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return why this request is not served; None where it is."""
        # Another site's name may be made to point here (DNS rebinding): Host then still carries that name.
        if scope["app"].state.local and not LOCAL_HEADER.fullmatch(headers.get("host", "")):
            return PlainTextResponse("this page is served to this machine only: open it as localhost", 421)
        if self._password is not None and not _carries(headers, self._password):
            challenge = {"WWW-Authenticate": 'Basic realm="WBC differential", charset="UTF-8"'}
            return PlainTextResponse("the page's password is needed", 401, challenge)
        return _post_refusal(headers) if scope["method"] == "POST" else None


def _carries(headers: Headers, password: bytes) -> bool:
    """Tell whether HTTP Basic authentication brings the password (any user name)."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True).partition(b":")[2]
    except ValueError:
        return False
    return scheme.lower() == "basic" and secrets.compare_digest(given, password)


def _post_refusal(headers: Headers) -> Response | None:
    """Return why this post may not steer the count; None where our own page (or no browser) sent it."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # Browsers without Sec-Fetch-Site (or on plain http, elsewhere than localhost) still send Origin.
    if site != "same-origin" if site else origin and origin.partition("://")[2] != headers.get("host"):
        return PlainTextResponse("another site's page may not steer the count", 403)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return PlainTextResponse("application/json is expected", 415)
    # A body in chunks may be longer than a number beside it says.
    unknown = "transfer-encoding" in headers or "content-length" not in headers
    if unknown or int(headers["content-length"]) > MAX_BODY_BYTES:
        return PlainTextResponse(f"at most {MAX_BODY_BYTES} bytes are expected, their number given", 413)
    return None
