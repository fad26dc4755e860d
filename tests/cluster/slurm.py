"""A SLURM cluster of the two hosts: a controller on node0, and a node daemon on each."""

import os
import shutil
import time
from pathlib import Path

from tests.cluster.hosts import ADDRESSES, Hosts

CONFIGURATION = """
ClusterName=trial
SlurmctldHost=node0({first})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
ReturnToService=2
KillWait=30
MinJobAge=3600
SlurmctldTimeout=60
SlurmdTimeout=60
NodeName=node0 NodeAddr={first} CPUs=2
NodeName=node1 NodeAddr={second} CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
PROGRAMS = ('slurmctld', 'slurmd', 'munged', 'sbatch', 'srun', 'scontrol', 'scancel', 'squeue')


def missing() -> str | None:
    """Return why SLURM cannot run on this machine, or None if it can."""
    absent = [program for program in PROGRAMS if _path(program) is None]
    return f'{", ".join(absent)} not installed' if absent else None


class Slurm:
    """A SLURM cluster on two hosts. Jobs are submitted on node0. Use as a context manager.

    Args:
        hosts: The hosts.
        folder: Folder for the configuration and state of SLURM. Its path must be short: it contains a socket.
    """

    def __init__(self, hosts: Hosts, folder: Path):
        self.hosts, self.folder = hosts, folder
        self.environment = {'SLURM_CONF': str(folder / 'slurm.conf')}

    def __enter__(self) -> 'Slurm':
        folder = self.folder
        (folder / 'state').mkdir()
        (folder / 'slurm.conf').write_text(
            CONFIGURATION.format(folder=folder, first=ADDRESSES['node0'], second=ADDRESSES['node1'])
        )
        (folder / 'cgroup.conf').write_text('CgroupPlugin=cgroup/v1\n')
        key = folder / 'munge.key'
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._start(
            'node0', 'munged', '--foreground', '--force', f'--key-file={key}', f'--socket={folder}/munge.socket',
            f'--pid-file={folder}/munged.pid', f'--seed-file={folder}/munged.seed', f'--log-file={folder}/munged.log',
        )  # fmt: skip
        self._wait(lambda: (folder / 'munge.socket').exists(), 'munged')
        self._start('node0', 'slurmctld', '-D')
        for name in ADDRESSES:
            self._start(name, 'slurmd', '-D', '-N', name)
        self._wait(lambda: self.run('sinfo', '-h', '-o', '%D %t').split() == ['2', 'idle'], 'the nodes')
        return self

    def __exit__(self, *error: object) -> None:
        pass  # the hosts stop the programs that were started on them

    def run(self, *argv: str, cwd: Path | None = None, **variables: str) -> str:
        """Run a command of SLURM on node0 and return its output."""
        return self.hosts.run('node0', *argv, cwd=cwd, **self.environment, **variables)

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING, PENDING or COMPLETED."""
        fields = dict(field.split('=', 1) for field in self.run('scontrol', 'show', 'job', job).split() if '=' in field)
        return fields['JobState']

    def _start(self, name, program, *argv):
        self.hosts.start(name, _path(program), *argv, output=f'{program}-{name}.txt', **self.environment)

    def _wait(self, condition, what):
        deadline = time.monotonic() + 60
        while not condition():
            texts = '\n'.join(self.hosts.read(path.name)[-2000:] for path in self.hosts.folder.glob('*-node?.txt'))
            assert time.monotonic() < deadline, f'{what} did not start:\n{texts}'
            time.sleep(0.5)


def _path(program):
    return shutil.which(program, path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
