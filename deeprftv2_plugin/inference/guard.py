"""Protect a local web page: refuse requests from other web sites, and set a content security policy."""

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'"
)
"""Content security policy of the page. It prevents browsers from requesting anything from other computers."""
LONGEST = 100_000
"""Maximum size of a request that is not an upload, in bytes."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware that refuses requests from other web sites and requests that make the server load a URL.

    gradio loads URLs in place of uploaded files. All responses have the header `POLICY`.

    Args:
        app: The ASGI application.
        hosts: Allowed host names, without port; empty for any.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], hosts: Sequence[str] = ()):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return
        headers = {name.decode('latin-1'): value.decode('latin-1') for name, value in scope['headers']}
        try:
            self._require_own(headers.get('host', ''), headers.get('origin'))
            _refuse_addresses({'path': scope['path']})
            if scope['method'] == 'POST' and not headers.get('content-type', '').startswith('multipart/'):
                receive = await _checked(receive)
        except ValueError as error:
            await send({'type': 'http.response.start', 'status': 403, 'headers': [(b'content-type', b'text/plain')]})
            await send({'type': 'http.response.body', 'body': str(error).encode()})
            return

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                added = [(b'content-security-policy', POLICY.encode()), (b'referrer-policy', b'no-referrer')]
                message['headers'] = [*message.get('headers', ()), *added]
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def _require_own(self, host: str, origin: str | None) -> None:
        """Raise ValueError if a request comes from another web site. Requests without an origin are allowed."""
        own = not self.hosts or urlsplit(f'//{host}').hostname in self.hosts
        if not own or (origin is not None and urlsplit(origin).netloc != host):
            raise ValueError('Requests from other web sites are not allowed.')


async def _checked(receive: Receive) -> Receive:
    """Read and check a JSON request, and return a function that receives it again.

    Raises:
        ValueError: The request is too long, is not JSON, or contains a URL as a path.
    """
    messages: list[Message] = []
    body = b''
    while not messages or messages[-1].get('more_body'):
        messages.append(await receive())
        body += messages[-1].get('body', b'')
        if len(body) > LONGEST:
            raise ValueError('The request is too long.')
    if body:
        json.loads(body, object_hook=_refuse_addresses)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


def _refuse_addresses(found: dict) -> dict:
    if '://' in str(found.get('path')):
        raise ValueError('Loading files from other computers is not allowed.')
    return found
