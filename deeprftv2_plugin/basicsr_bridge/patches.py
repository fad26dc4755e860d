"""What BasicSR lacks on today's libraries: a small function a defect, switched on by a test for the defect.

BasicSR's package on PyPI and its repository differ under one version number, so nothing here asks for it.
`apply` imports BasicSR with the mends that its import needs, then mends what it imported.
"""

import contextlib
import datetime
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
import time
import types

from deeprftv2_plugin.utils.errors import UserError

INSTALL = 'pip install --no-build-isolation basicsr==1.4.2'
if sys.version_info >= (3, 13):  # see that folder for the reason
    INSTALL = f'PYTHONPATH="$PWD/scripts/basicsr_build" {INSTALL}, in a checkout of this plugin'
PATIENCE = datetime.timedelta(hours=1)
"""How long a process waits for the others; pictures of a validation may differ much in size."""
_applied = False


def apply():
    """Imports BasicSR and mends it. Calling it again does nothing.

    Raises:
        UserError: BasicSR is not installed, or another package of its name hides it.
    """
    global _applied
    if _applied:
        return
    require_basicsr()
    define_torchvision_operators()
    alias_functional_tensor()
    with distutils_for_import():
        importlib.import_module('basicsr')
    mend_init_dist()
    mend_model_to_device()
    mend_load_network()
    mend_saving()
    mend_archiving()
    mend_prefetcher()
    _applied = True


def require_basicsr():
    """Sees, without importing it, that the package `basicsr` is there and is BasicSR.

    Forks for single papers ship a package of the same name without registries, and a folder in the working
    directory hides the installed one.
    """
    spec = importlib.util.find_spec('basicsr')
    if spec is None:
        raise UserError(f'BasicSR is not installed in {sys.prefix}. Install it: {INSTALL}')
    folders = list(spec.submodule_search_locations or [])
    for needed in ('train.py', 'utils/registry.py', 'version.py'):
        if not any(os.path.isfile(os.path.join(folder, needed)) for folder in folders):
            where = folders[0] if folders else spec.origin
            raise UserError(
                f'the package basicsr at {where} is not an installed BasicSR: it has no {needed}. '
                f'Run from another folder or uninstall that package, then: {INSTALL}'
            )


def define_torchvision_operators():
    """Declares operators that torchvision describes at import but lacks where its C++ part cannot be loaded,
    being made for another build of torch. Nothing here calls them, but without them the import fails.
    """
    import torch

    try:
        importlib.import_module('torchvision')
        return
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
    for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[name]
    for operator in ('nms', 'qnms'):
        torch.library.define(f'torchvision::{operator}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    importlib.import_module('torchvision')


def alias_functional_tensor():
    """BasicSR imports `rgb_to_grayscale` from a module that torchvision has dropped."""
    name = 'torchvision.transforms.functional_tensor'
    if not _importable(name):
        from torchvision.transforms import functional

        module = types.ModuleType(name, 'Stands for the module that torchvision has dropped.')
        module.rgb_to_grayscale = functional.rgb_to_grayscale
        sys.modules[name] = module


@contextlib.contextmanager
def distutils_for_import():
    """`basicsr.archs.arch_util` compares versions with distutils, which Python 3.12 has dropped. The stand-in
    goes again after the import, so that no other package takes it for the real one.
    """
    names = ('distutils', 'distutils.version')
    stand_ins = {} if _importable(names[1]) else {name: types.ModuleType(name) for name in names}
    if stand_ins:
        from torch.torch_version import TorchVersion

        stand_ins['distutils.version'].LooseVersion = TorchVersion
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _importable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def mend_init_dist():
    """BasicSR takes the device from `rank % number of GPUs` and asks for NCCL, with no GPU as well."""
    from basicsr.utils import dist_util, options

    if 'LOCAL_RANK' not in inspect.getsource(dist_util._init_dist_pytorch):
        options.init_dist = dist_util.init_dist = init_dist


def init_dist(launcher, backend='nccl', port=None, use_gpu=True):
    """Starts torch.distributed for one process of several.

    Args:
        launcher: 'pytorch' (torchrun; the environment says all) or 'slurm' (srun, as in BasicSR).
        backend: Backend on GPUs. Without a GPU it is gloo.
        port: Port of the first node, where the launcher has not set one. BasicSR's default is 29500.
        use_gpu: False keeps to the CPU on a machine with GPUs.

    Raises:
        UserError: the launcher has set no environment, or there are more processes on this node than GPUs.
    """
    import torch

    if launcher == 'slurm':
        _environment_from_slurm(port)
    elif launcher != 'pytorch':
        raise ValueError(f'launcher: found {launcher!r}, expected pytorch or slurm')
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {launcher}: {", ".join(missing)} not set in the environment. Start with '
            'torchrun --nproc_per_node=N -m deeprftv2_plugin train -opt FILE, or leave --launcher out.'
        )
    os.environ.setdefault('MASTER_PORT', str(port or 29500))
    local_rank = int(os.environ.get('LOCAL_RANK', 0))
    count = torch.cuda.device_count() if use_gpu else 0
    if count == 0:
        torch.distributed.init_process_group('gloo', timeout=PATIENCE, **_own_store())
        return
    if local_rank >= count:
        raise UserError(
            f'process {local_rank} of this node has no GPU: {count} visible. Start at most {count} processes '
            'a node, or set num_gpu: 0 to train on the CPU.'
        )
    torch.cuda.set_device(local_rank)
    device = torch.device('cuda', local_rank)
    torch.distributed.init_process_group(backend, timeout=PATIENCE, device_id=device, **_own_store())


def _own_store():
    """After a restart by torchrun, a part of its store in which nothing is from the attempt before.

    torchrun keeps one store for all attempts, where a process can find the address of one that is dead. The attempts
    are numbered by each node for itself, so this serves where there is one. For more, the variable
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 lets torchrun make a store for every attempt.
    """
    from torch import distributed

    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if attempt == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, size = next(distributed.rendezvous('env://', timeout=PATIENCE))
    return {'store': distributed.PrefixStore(f'attempt {attempt}', store), 'rank': rank, 'world_size': size}


def _environment_from_slurm(port):
    """Says in torchrun's variables what srun says in its own."""
    import torch

    try:
        rank, size, nodes = (os.environ[name] for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'))
    except KeyError as error:
        raise UserError(f'--launcher slurm: {error.args[0]} is not set in the environment. Start with srun.') from None
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(['scontrol', 'show', 'hostname', nodes], capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = hosts.stdout.split()[0]
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    # modulo: srun may show each of its processes one GPU only
    local_rank = int(os.environ.get('SLURM_LOCALID', rank)) % max(1, torch.cuda.device_count())
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=str(local_rank))


def mend_model_to_device():
    """BasicSR hands DistributedDataParallel a GPU number, with no GPU as well."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device
    if 'torch.cuda.current_device()' not in inspect.getsource(original):
        return

    def model_to_device(self, net):
        if not self.opt['dist'] or self.device.type == 'cuda':
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = model_to_device


def mend_load_network():
    """BasicSR loads whatever a checkpoint holds, and knows one form of it only."""
    from basicsr.models.base_model import BaseModel

    if 'weights_only' not in inspect.getsource(BaseModel.load_network):
        BaseModel.load_network = load_network


def load_network(self, net, load_path, strict=True, param_key='params'):
    """Loads a checkpoint of ours, BasicSR's or the authors' into a model's network, without running code in it.

    Args:
        self: BasicSR's model.
        net: The network, wrapped or not.
        load_path: .pth or .safetensors file.
        strict: Whether all names and shapes must agree; otherwise what does not fit is logged.
        param_key: Which set of weights of the file, see `checkpoints.read_weights`.

    Raises:
        UserError: The file is missing, damaged, unsafe, or (with `strict`) of another network.
    """
    from basicsr.utils import get_root_logger

    from deeprftv2_plugin import checkpoints

    net, logger = self.get_bare_model(net), get_root_logger()
    left_out = checkpoints.load_into(net, checkpoints.read_weights(load_path, param_key), load_path, strict)
    logger.info(f'{type(net).__name__} loaded from {load_path}.')
    if left_out:
        logger.warning(f'{load_path}: {len(left_out)} names do not fit: {", ".join(left_out)}')


def mend_saving():
    """BasicSR writes into the file itself, so that a kill leaves half of it, and ignores what cannot be written."""
    from basicsr.models.base_model import BaseModel

    if 'os.replace' not in inspect.getsource(BaseModel.save_training_state):
        from deeprftv2_plugin.training import saving

        BaseModel.save_network, BaseModel.save_training_state = saving.save_network, saving.save_training_state


def mend_archiving():
    """BasicSR moves an earlier experiment to a name with the time in seconds, which another may have taken."""
    from basicsr import train
    from basicsr.utils import misc

    if 'while' not in inspect.getsource(misc.mkdir_and_rename):
        train.mkdir_and_rename = misc.mkdir_and_rename = mkdir_and_rename


def mkdir_and_rename(path):
    """Makes a folder; one of its name that is there is kept as NAME_archived_TIME."""
    if os.path.exists(path):
        stamp = time.strftime('%Y%m%d_%H%M%S')
        archived = new = f'{path}_archived_{stamp}'
        number = 1
        while os.path.exists(new):
            number += 1
            new = f'{archived}_{number}'
        print(f'{path} is there already. It is renamed to {new}', flush=True)
        os.rename(path, new)
    os.makedirs(path)


def mend_prefetcher():
    """Where data cannot be read, the thread of `prefetch_mode: cpu` ends in silence, and the training waits for it."""
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    if 'except' in inspect.getsource(PrefetchGenerator):
        return

    def run(self):
        self.error = None
        try:
            for item in self.generator:
                self.queue.put(item)
        except Exception as error:
            self.error = error
        self.queue.put(None)

    def following(self):
        item = self.queue.get()
        if item is None:
            raise self.error or StopIteration
        return item

    PrefetchGenerator.run, PrefetchGenerator.__next__ = run, following
