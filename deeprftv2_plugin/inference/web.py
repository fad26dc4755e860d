"""A local web page that deblurs photographs. Requires gradio."""

import contextvars
import html
import importlib.util
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from deeprftv2_plugin.inference.deblurring import deblur, failure_reason, parts_of_image
from deeprftv2_plugin.inference.guard import Guard
from deeprftv2_plugin.inference.outputs import written_name
from deeprftv2_plugin.inference.photographs.photograph import Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import encode
from deeprftv2_plugin.inference.restorer import TILES, Restorer
from deeprftv2_plugin.utils.errors import UserError, first_line
from deeprftv2_plugin.utils.temporary import temporary_folder

MAX_PORT = 65535
KEPT = 3600
"""Seconds after which the files of a photograph are deleted."""
LOCAL = ('127.0.0.1', '::1', 'localhost')
"""Host names by which browsers on this computer open the page."""
TITLE = 'Deblur a photograph'
AUTOMATIC = 'automatic'


class Deblurred(NamedTuple):
    """The files of a restored photograph."""

    result: Path
    """The same file that `basicsr deblur` writes."""
    before: Path
    """The blurry image in a format supported by browsers."""
    after: Path
    """The restored image in that format."""
    width: int
    height: int


def deblur_upload(restorer: Restorer, source: Path, folder: Path, advance: Callable[[float], None]) -> Deblurred:
    """Restore an uploaded photograph.

    Args:
        restorer: The restorer.
        source: The uploaded file.
        folder: Folder for the results.
        advance: Called with the fraction restored since the last call, in [0, 1].

    Raises:
        UserError: The file is not a photograph that can be restored. The message has its name without the folder.
    """
    target = folder / written_name(Path(source.name))
    try:
        with parts_of_image(restorer.net, advance) as expect:
            photo = read(source)
            height, width = photo.pixels.shape[:2]
            expect(restorer.passes(height, width))
            after = deblur(restorer, photo, target)
    except Exception as error:
        reason = failure_reason(error)
        for path in (source, target):
            reason = reason.replace(str(path), path.name)
        raise UserError(reason) from error
    previews = folder / 'previews'  # the upload may have any name
    previews.mkdir()
    return Deblurred(target, _preview(photo, previews / 'before'), _preview(after, previews / 'after'), width, height)


def serve(
    restorers: Mapping[str, Restorer],
    host: str,
    port: int,
    max_size: int,
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the page until the process is interrupted.

    Uploaded files and results are in a temporary folder. They are deleted after an hour and at the end. Nothing is
    requested from other computers.

    Args:
        restorers: The available networks, by the names shown on the page.
        host: Address to listen on. Other computers can only use the page if it is not the loopback address.
        port: Port to listen on; 0 for any free port.
        max_size: Maximum size of an uploaded file, in MB.
        started: Called with the URL of the page.

    Raises:
        UserError: gradio is not installed, or the address or the limit cannot be used.
    """
    if importlib.util.find_spec('gradio') is None:  # imported after its folder for files is set
        raise UserError("the page requires gradio, which is not installed: pip install 'deeprftv2-plugin[web]'")
    if not 0 <= port <= MAX_PORT:
        raise UserError(f'--port is {port}, expected 0 to {MAX_PORT}')
    if max_size < 1:
        raise UserError(f'--max-size is {max_size}, expected at least 1 MB')
    import uvicorn

    with _listening(host, port) as listener, temporary_folder() as folder, _ended_by_signals():
        app = make_app(restorers, folder, host, max_size, lambda: server.should_exit)
        server = uvicorn.Server(uvicorn.Config(app, log_level='critical', timeout_graceful_shutdown=1))
        name = f'[{host}]' if ':' in host else host
        started(f'http://{name}:{listener.getsockname()[1]}')
        server.run(sockets=[listener])


def make_app(
    restorers: Mapping[str, Restorer],
    folder: Path,
    host: str,
    max_size: int,
    ended: Callable[[], bool] = lambda: False,
) -> Any:
    """Return the page as an ASGI application.

    Args:
        restorers: The available networks, by the names shown on the page.
        folder: Folder for uploaded files and results.
        host: Address on which the server listens.
        max_size: Maximum size of an uploaded file, in MB.
        ended: Returns whether the server is shutting down. A running restoration is then canceled.
    """
    os.environ['GRADIO_TEMP_DIR'] = str(folder)
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    import gradio as gr
    from fastapi import FastAPI

    def run(path: str | None, weights: str, tile: str, progress: Any = gr.Progress()) -> tuple:  # noqa: B008
        if path is None:
            raise gr.Error('Choose a photograph first.', print_exception=False)
        base, done, lock, context = restorers[weights], 0.0, threading.Lock(), contextvars.copy_context()
        restorer = Restorer(base.net, base.device, None if tile == AUTOMATIC else int(tile))

        def advance(part: float) -> None:
            nonlocal done
            if ended():
                raise UserError('the server is shutting down')
            with lock:  # tiles are restored in several threads, which do not have gradio's context variables
                done += part
                context.run(progress, done, desc='Deblurring')

        start = time.monotonic()
        try:
            found = deblur_upload(restorer, Path(path), Path(tempfile.mkdtemp(dir=folder)), advance)
        except UserError as error:
            raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from error
        status = f'{found.width} × {found.height} pixels, {time.monotonic() - start:.1f} s'
        download = gr.DownloadButton(f'Download {found.result.name}', value=found.result, interactive=True)
        return (found.before, found.after), download, status

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(max(1, KEPT // 60), KEPT)) as page:
        gr.Markdown(f'# {TITLE}\nThe photograph stays on the computer that serves this page and is deleted there.')
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                photo = gr.File(label='Photograph', type='filepath', height=180)
                weights = gr.Dropdown(list(restorers), label='Weights', interactive=True)
                tiles = [AUTOMATIC, *map(str, sorted(TILES))]
                tile = gr.Dropdown(tiles, label='Tiles', info='height and width in pixels', interactive=True)
                button = gr.Button('Deblur', variant='primary')
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(label='Before and after', interactive=False, buttons=['fullscreen'])
                download = gr.DownloadButton('Download', interactive=False)
                status = gr.Markdown()
        gr.on(
            [photo.upload, button.click],
            run,
            [photo, weights, tile],
            [slider, download, status],
            api_visibility='private',
            show_progress_on=slider,
        )
    app = FastAPI(openapi_url=None)
    gr.mount_gradio_app(
        app,
        page.queue(default_concurrency_limit=1, max_size=32),
        '/',
        theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        max_file_size=f'{max_size}mb',
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    app.add_middleware(Guard, hosts=LOCAL if host in LOCAL else ())
    return app


def _preview(photo: Photograph, stem: Path) -> Path:
    """Write a photograph at full size in a format supported by browsers, and return the path."""
    format = 'JPEG' if photo.alpha is None else 'PNG'
    path = stem.with_suffix(f'.{format.lower()}')
    path.write_bytes(encode(photo, format))
    return path


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens on an address.

    Raises:
        UserError: The address cannot be used.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UserError(
            f'cannot listen on {host}, port {port} ({first_line(error)}): use another --port, or 127.0.0.1 as --host'
        ) from error
    with listener:
        yield listener


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise SystemExit on signals that would otherwise kill the process, so that temporary files are removed."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    handlers: dict[int, Any] = {signal.SIGTERM: leave}
    if hasattr(signal, 'SIGHUP'):
        handlers[signal.SIGHUP] = lambda *_: signal.raise_signal(signal.SIGTERM)  # uvicorn shuts down on SIGTERM
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
