"""A server with the paths of the Hugging Face Hub, and a process that loads a network from it."""

import hashlib
import os
import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

LOAD = """
import sys
import numpy as np
from deeprftv2_plugin import load
from deeprftv2_plugin.utils.errors import UserError
try:
    np.save('out.npy', load(sys.argv[1], device='cpu')(np.load('in.npy')))
except UserError as error:
    print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """Serves files/model.safetensors as the repository owner/sharper."""

    def __init__(self, file, *arguments):
        self.data = file.read_bytes()
        super().__init__(*arguments)

    def do_HEAD(self):
        found = self.path == '/owner/sharper/resolve/main/model.safetensors'
        self.send_response(200 if found else 404)
        if found:
            self.send_header('ETag', f'"{hashlib.sha256(self.data).hexdigest()}"')
            self.send_header('X-Repo-Commit', 'a' * 40)
        else:
            self.send_header('X-Error-Code', 'RepoNotFound')
        self.send_header('Content-Length', str(len(self.data) if found else 0))
        self.end_headers()
        return found

    def do_GET(self):
        if self.do_HEAD():
            self.wfile.write(self.data)

    def log_message(self, *arguments):
        pass


def load_from_hub(folder, repository):
    """Deblur in.npy with a network from the server in a new process, which reads HF_ENDPOINT when it starts."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Hub, folder / 'files/model.safetensors'))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        variables = {'HF_ENDPOINT': f'http://127.0.0.1:{server.server_port}', 'HF_HOME': str(folder / 'cache')}
        paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get('PYTHONPATH', '')])
        environment = {**os.environ, **variables, 'PYTHONPATH': paths}
        command = [sys.executable, '-c', LOAD, repository]
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout
    finally:
        server.shutdown()
        server.server_close()
