"""Requests that the local page refuses or accepts."""

import asyncio
import json

import pytest

from deeprftv2_plugin.inference.guard import LONGEST, POLICY, Guard


def answer(headers, path='/', body=b'', method='GET'):
    """Return the messages that are sent in reply to a request, and the body that the application gets."""
    sent, got = [], []
    parts = [body[:10], body[10:]]

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            got.append(message.get('body', b''))
            more = message.get('more_body')
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})

    async def receive():
        return {'type': 'http.request', 'body': parts.pop(0), 'more_body': bool(parts)}

    async def send(message):
        sent.append(message)

    listed = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {'type': 'http', 'method': method, 'path': path, 'headers': listed}
    asyncio.run(Guard(app, ['127.0.0.1', '::1', 'localhost'])(scope, receive, send))
    return sent, b''.join(got)


@pytest.mark.parametrize(
    'headers, path, allowed',
    [
        ({'host': '127.0.0.1:80'}, '/', True),
        ({'host': 'localhost:80', 'origin': 'http://localhost:80'}, '/', True),
        ({'host': '[::1]:80'}, '/', True),
        ({'host': 'evil.example:80'}, '/', False),  # a name that leads to 127.0.0.1
        ({'host': 'localhost:80', 'origin': 'http://evil.example'}, '/', False),
        ({'host': 'localhost:80', 'origin': 'http://localhost:81'}, '/', False),
        ({'host': 'localhost:80', 'origin': 'null'}, '/', False),
        ({'host': 'localhost:80'}, '/gradio_api/file=http://evil.example/a.png', False),
        ({'host': 'localhost:[80'}, '/', False),
        ({}, '/', False),
    ],
)
def test_other_web_sites_are_refused(headers, path, allowed):
    sent, _ = answer(headers, path)
    assert sent[0]['status'] == (200 if allowed else 403)
    assert not allowed or (b'content-security-policy', POLICY.encode()) in sent[0]['headers']


@pytest.mark.parametrize(
    'body, allowed',
    [
        (json.dumps({'data': [{'path': '/tmp/a.png', 'url': 'http://localhost/a.png'}]}), True),
        ('', True),
        ('{"data": [[{"path": "http://evil.example/a.png"}]]}', False),
        ('{"data": [{"p\\u0061th": "\\u0068ttps:\\u002f/evil.example/a.png"}]}', False),
        ('not JSON', False),
        (json.dumps({'data': LONGEST * 'a'}), False),
    ],
)
@pytest.mark.parametrize('kind', ['application/json', 'text/plain', ''])
def test_urls_in_place_of_uploads_are_refused(body, allowed, kind):
    sent, got = answer({'host': 'localhost', 'content-type': kind}, '/queue/join', body.encode(), 'POST')
    assert sent[0]['status'] == (200 if allowed else 403)
    assert got == (body.encode() if allowed else b'')


def test_uploads_are_not_read():
    body = LONGEST * b'a' + b'://'
    sent, got = answer({'host': 'localhost', 'content-type': 'multipart/form-data; boundary=x'}, '/', body, 'POST')
    assert sent[0]['status'] == 200 and got == body
