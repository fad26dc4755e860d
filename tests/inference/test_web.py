"""The page that deblurs photographs: its files, and its behavior in a browser."""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import urllib.request
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.inference import load, restore, web
from deeprftv2_plugin.utils.errors import UserError

LIMIT = 1
"""Largest file for the page, in MB."""
HOSTILE = "<img src=x onerror='document.title=1'>.png"


@pytest.fixture(scope='module')
def restorers(weights):
    torch.manual_seed(1)
    other = DeepRFTv2('T', width=8, kernel_width=4)
    return {'first': load(weights, device='cpu'), 'other': web.Restorer(other, 'cpu')}


def write_image(path, size=(40, 56), seed=0, **settings):
    array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(array).save(path, **settings)
    return array


def expected(restorer, array):
    x = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    restored = restore(restorer.net, x)[0].clamp(0, 1).permute(1, 2, 0)
    return np.rint(restored.numpy() * 255).astype(np.uint8)


def bomb():
    """A PNG file of a few bytes that claims to have 10 gigapixels."""
    header = struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(bytes(9))), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in chunks
    )


def hostile_files(folder):
    """Files that cannot be deblurred, with parts of the error messages."""
    write_image(folder / 'whole.png')
    files = {
        'text.png': (b'not an image', 'text.png is not an image in a format that Pillow reads'),
        'bomb.png': (bomb(), 'the image bomb.png is too large (10,000,000,000 pixels'),
        'cut.png': ((folder / 'whole.png').read_bytes()[:3000], 'the image cut.png is damaged'),
        'empty.jpg': (b'', 'empty.jpg'),
        HOSTILE: (b'not an image', f'{HOSTILE} is not an image in a format that Pillow reads'),
    }
    for name, (data, reason) in files.items():
        (folder / name).write_bytes(data)
        yield folder / name, reason


@pytest.mark.parametrize('name', ['deep.png', 'alpha.png', 'photo.jpg', 'palette.gif'])
def test_the_result_is_the_file_that_the_command_writes(restorers, weights, tmp_path, name):
    array = write_image(tmp_path / 'a.png')
    if name == 'deep.png':
        import cv2

        cv2.imwrite(str(tmp_path / name), array.astype(np.uint16) * 257)
    elif name == 'alpha.png':
        Image.fromarray(np.dstack([array, array[..., 0]])).save(tmp_path / name)
    else:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, 'maker'
        Image.open(tmp_path / 'a.png').save(tmp_path / name, **({'exif': exif} if name == 'photo.jpg' else {}))
    (tmp_path / 'page').mkdir()
    parts = []
    found = web.deblur_upload(restorers['first'], tmp_path / name, tmp_path / 'page', parts.append)
    command = ['deblur', str(tmp_path / name), '-o', str(tmp_path / 'out'), '--weights', weights, '--device', 'cpu']
    assert cli.main(command) == 0
    (written,) = (tmp_path / 'out').iterdir()
    assert found.result.name == written.name and found.result.read_bytes() == written.read_bytes()
    assert sum(parts) == pytest.approx(1)
    for preview in (found.before, found.after):
        with Image.open(preview) as image:
            assert image.format in ('JPEG', 'PNG') and image.size == (found.width, found.height)


def test_an_upload_may_have_the_name_of_a_preview(restorers, tmp_path):
    (tmp_path / 'page').mkdir()
    write_image(tmp_path / 'a.png')
    Image.open(tmp_path / 'a.png').save(tmp_path / 'before.jpeg')
    found = web.deblur_upload(restorers['first'], tmp_path / 'before.jpeg', tmp_path / 'page', lambda part: None)
    assert len({found.result, found.before, found.after}) == 3


def test_a_restoration_can_be_canceled(restorers, tmp_path):
    def give_up(part):
        raise UserError('the server is shutting down')

    write_image(tmp_path / 'a.png')
    with pytest.raises(UserError, match='^the server is shutting down$'):
        web.deblur_upload(restorers['first'], tmp_path / 'a.png', tmp_path, give_up)


def test_errors_name_the_file_without_its_folder(restorers, tmp_path):
    for path, reason in hostile_files(tmp_path):
        with pytest.raises(UserError) as error:
            web.deblur_upload(restorers['first'], path, tmp_path / 'none', lambda part: None)
        assert reason in str(error.value) and str(tmp_path) not in str(error.value)
    with pytest.raises(UserError, match='^cannot write whole.png: No such file or directory'):
        web.deblur_upload(restorers['first'], tmp_path / 'whole.png', tmp_path / 'none', lambda part: None)


def test_addresses_that_cannot_be_used_are_errors(capsys, monkeypatch, weights):
    pytest.importorskip('gradio')
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = str(other.getsockname()[1])
        assert cli.main(['demo', '--weights', weights, '--device', 'cpu', '--port', port]) == 1
    assert f'cannot listen on 127.0.0.1, port {port} (' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--port', '70000'], '--port is 70000, expected 0 to 65535'),
        (['--max-size', '0'], '--max-size is 0, expected at least 1 MB'),
        (['--weights', 'none.pth'], 'none.pth: checkpoint not found'),
    ],
)
def test_unsuitable_arguments_are_errors(capsys, weights, arguments, message):
    pytest.importorskip('gradio')
    assert cli.main(['demo', '--weights', weights, '--device', 'cpu', *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_gradio_is_an_error(capsys, monkeypatch, weights):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert cli.main(['demo', '--weights', weights, '--device', 'cpu']) == 1
    assert "pip install 'deeprftv2-plugin[web]'" in capsys.readouterr().err


@contextmanager
def served(restorers, folder):
    """Serve the page in a thread of this process, which may only connect to itself, and yield the URL."""
    import uvicorn

    connect = socket.socket.connect
    connections = []

    def recorded(self, address):
        connections.append(address)
        return connect(self, address)

    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', '')
        patch.setenv('GRADIO_ANALYTICS_ENABLED', '')
        patch.setattr(socket.socket, 'connect', recorded)
        app = web.make_app(restorers, folder, '127.0.0.1', LIMIT)
        listener = socket.create_server(('127.0.0.1', 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level='critical', timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
        thread.start()
        try:
            yield f'http://127.0.0.1:{listener.getsockname()[1]}'
        finally:
            server.should_exit = True
            thread.join()
            listener.close()
    assert {address[0] for address in connections if isinstance(address, tuple)} <= {'127.0.0.1'}


def post(url, content_type, body):
    request = urllib.request.Request(url, body, {'Content-Type': content_type})
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())


def test_files_are_deleted_after_a_while(restorers, tmp_path, monkeypatch):
    pytest.importorskip('gradio')
    monkeypatch.setattr(web, 'KEPT', 3)
    array = write_image(tmp_path / 'photo.png')
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="photo.png"\r\n\r\n%b\r\n--x--\r\n'
    data = part % (tmp_path / 'photo.png').read_bytes()
    answers, deadline = '', time.monotonic() + 120
    with served(restorers, tmp_path / 'files') as url:
        while f'{array.shape[1]} × {array.shape[0]} pixels' not in answers:  # on a slow machine, it is deleted before
            (path,) = post(f'{url}/gradio_api/upload', 'multipart/form-data; boundary=x', data)
            file = {'path': path, 'meta': {'_type': 'gradio.FileData'}}
            body = {'data': [file, 'first', 'automatic'], 'fn_index': 0, 'session_hash': 'x'}
            post(f'{url}/gradio_api/queue/join', 'application/json', json.dumps(body).encode())
            with urllib.request.urlopen(f'{url}/gradio_api/queue/data?session_hash=x') as response:
                answers = response.read().decode()
            assert 'pixels' in answers or 'No such file' in answers
        while any(
            each.is_file() and each.stat().st_size for each in (tmp_path / 'files').rglob('*')
        ):  # gradio's is empty
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.posix
@pytest.mark.parametrize('number', [signal.SIGTERM, getattr(signal, 'SIGHUP', None)])
def test_all_files_are_deleted_at_the_end(restorers, tmp_path, monkeypatch, number):
    pytest.importorskip('gradio')
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')
    monkeypatch.setenv('GRADIO_ANALYTICS_ENABLED', '')
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'temporary'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'temporary').mkdir()
    seen = {}

    def visit(url):
        try:
            with urllib.request.urlopen(url) as response:
                seen['page'] = response.read()
            seen['files'] = os.listdir('temporary')
        finally:
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as end:
        web.serve(restorers, '127.0.0.1', 0, LIMIT, lambda url: threading.Thread(target=visit, args=(url,)).start())
    assert end.value.code == 128 + signal.SIGTERM
    assert web.TITLE.encode() in seen['page'] and len(seen['files']) == 1
    assert os.listdir() == ['temporary'] and os.listdir('temporary') == []


@pytest.fixture(scope='module')
def url(restorers, tmp_path_factory):
    """The URL of the page."""
    pytest.importorskip('gradio')
    with served(restorers, tmp_path_factory.mktemp('files')) as url:
        yield url


@pytest.fixture
def page(browser, url):
    """The page in a browser, which may only request from the server."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    requests, errors = [], []
    page.on('request', lambda request: requests.append(request.url))
    page.on('pageerror', lambda error: errors.append(error))
    page.goto(url)
    page.get_by_role('button', name='Deblur').wait_for()
    yield page
    page.close()
    assert [each for each in requests if not each.startswith((url, 'data:', 'blob:'))] == []
    assert errors == []


def upload(page, path):
    page.locator('input[type=file]').set_input_files(path)


def choose(page, label, value):
    page.get_by_label(label).click()
    page.get_by_role('option', name=value, exact=True).click()


def download(page, name):
    with page.expect_download() as found:
        page.get_by_text(f'Download {name}').click()
    assert found.value.suggested_filename == name
    with Image.open(found.value.path()) as image:
        return np.asarray(image)


def test_a_photograph_is_restored_in_the_browser(page, restorers, tmp_path):
    array = write_image(tmp_path / 'photo.png')
    upload(page, tmp_path / 'photo.png')
    page.get_by_text('56 × 40 pixels').wait_for()
    np.testing.assert_array_equal(download(page, 'photo.png'), expected(restorers['first'], array))
    shown = page.locator('img').evaluate_all('images => images.map(image => image.naturalWidth)')
    assert shown.count(56) == 2


def test_weights_and_tiles_can_be_chosen(page, restorers, tmp_path):
    array = write_image(tmp_path / 'wide.png', (24, 400))
    choose(page, 'Weights', 'other')
    choose(page, 'Tiles', '256')
    upload(page, tmp_path / 'wide.png')
    page.get_by_text('400 × 24 pixels').wait_for()
    found = download(page, 'wide.png')
    assert not np.array_equal(found, expected(restorers['other'], array))
    np.testing.assert_array_equal(found, web.Restorer(restorers['other'].net, 'cpu', tile=256)(array))


def test_errors_appear_in_the_page(page, tmp_path):
    for path, reason in hostile_files(tmp_path):
        upload(page, path)
        shown = reason.replace('<', '').replace('>', '')  # gradio removes them from names of files
        page.get_by_text(shown).wait_for()
        page.get_by_label('Clear').first.click()
    assert page.title() == web.TITLE


def test_files_that_are_too_large_are_refused(page, url):
    large = {'name': 'large.png', 'mimeType': 'image/png', 'buffer': bytes(LIMIT * 2**20 + 1)}
    upload(page, large)
    page.get_by_text('exceed the maximum allowed size of ').wait_for()
    answer = page.request.post(f'{url}/gradio_api/upload', multipart={'files': large})
    assert answer.status == 413


def test_urls_are_not_loaded(page, url):
    """The fixture checks that the server does not connect to other computers."""
    file = {'path': 'http://93.184.216.34/a.png', 'meta': {'_type': 'gradio.FileData'}}
    body = {'data': [file, 'first', 'automatic'], 'fn_index': 0, 'session_hash': 'x'}
    assert page.request.post(f'{url}/gradio_api/queue/join', data=body).status == 403
    assert page.request.get(f'{url}/gradio_api/file={file["path"]}').status == 403


def test_files_of_the_computer_are_not_served(page, url, tmp_path):
    (tmp_path / 'secret.txt').write_text('secret')
    for path in (tmp_path / 'secret.txt', Path(__file__), Path('/etc/passwd'), Path('pyproject.toml').absolute()):
        assert page.request.get(f'{url}/gradio_api/file={path}').status == 403
