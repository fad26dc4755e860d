"""Two hosts on one machine: network namespaces with their own host names, connected by a veth pair."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

ADDRESSES = {'node0': '10.213.7.1', 'node1': '10.213.7.2'}
_ENTER = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'


def missing() -> str | None:
    """Return why hosts cannot be created on this machine, or None if they can."""
    if os.name != 'posix' or os.geteuid() != 0:
        return 'needs root'
    absent = [program for program in ('ip', 'unshare', 'mount') if shutil.which(program) is None]
    return f'{", ".join(absent)} not installed' if absent else None


class Hosts:
    """Two hosts, node0 and node1, that share the file system. Use as a context manager.

    Args:
        folder: Folder for the hosts file and the output of programs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.table = folder / 'hosts'
        self.programs: list[subprocess.Popen] = []

    def __enter__(self) -> 'Hosts':
        lines = ['127.0.0.1 localhost', *(f'{address} {name}' for name, address in ADDRESSES.items())]
        self.table.write_text('\n'.join(lines) + '\n')
        self._remove()
        first, second = ADDRESSES
        for name in ADDRESSES:
            _ip('netns', 'add', _space(name))
        _ip('link', 'add', 'link0', 'netns', _space(first), 'type', 'veth', 'peer', 'link0', 'netns', _space(second))
        for name, address in ADDRESSES.items():
            _ip('-n', _space(name), 'address', 'add', f'{address}/24', 'dev', 'link0')
            for device in ('lo', 'link0'):
                _ip('-n', _space(name), 'link', 'set', device, 'up')
        return self

    def __exit__(self, *error: object) -> None:
        for program in self.programs:
            self.stop(program, signal.SIGKILL)
        self._remove()

    def start(self, name: str, *argv: str, output: str, cwd: Path | None = None, **variables: str) -> subprocess.Popen:
        """Start a program on a host, in its own process group.

        Args:
            name: The host.
            argv: The program and its arguments.
            output: Name of the file, in the folder of the hosts, that its output is appended to.
            cwd: Working directory. Default: the folder of the hosts.
            variables: Additional environment variables.
        """
        command = ['ip', 'netns', 'exec', _space(name), 'unshare', '--uts', '--mount']
        command += ['bash', '-c', _ENTER, 'enter', name, str(self.table), *argv]
        with open(self.folder / output, 'ab') as file:
            program = subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env={**os.environ, **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.programs.append(program)
        return program

    def run(self, name: str, *argv: str, cwd: Path | None = None, **variables: str) -> str:
        """Run a program on a host until it ends and return its output. A failure is an error."""
        output = f'run-{len(self.programs)}.txt'
        status = self.start(name, *argv, output=output, cwd=cwd, **variables).wait(120)
        text = self.read(output)
        assert status == 0, f'{argv}: exit status {status}\n{text}'
        return text

    def read(self, output: str) -> str:
        """Return the output of a program so far."""
        path = self.folder / output
        return path.read_text(errors='replace') if path.exists() else ''

    def stop(self, program: subprocess.Popen, number: int) -> None:
        """Send a signal to a program and all processes in its session."""
        for pid in _session(program.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def link(self, name: str, up: bool) -> None:
        """Connect a host to the network or disconnect it."""
        _ip('-n', _space(name), 'link', 'set', 'link0', 'up' if up else 'down')

    def _remove(self):
        present = subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True, check=True).stdout.split()
        for name in ADDRESSES:
            if _space(name) in present:
                _ip('netns', 'delete', _space(name))


def _space(name):
    return f'deeprftv2-{name}'


def _ip(*argv):
    subprocess.run(['ip', *argv], check=True, timeout=30)


def _session(leader):
    """Return a process and the other processes in its session."""
    found = [leader]
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(') ')[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == leader:
            found.append(int(path.parent.name))
    return found
