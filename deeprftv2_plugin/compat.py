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
import types

from deeprftv2_plugin.errors import UserError

INSTALL = 'pip install --no-build-isolation basicsr==1.4.2'
PATIENCE = datetime.timedelta(hours=12)
"""How long a process waits for the others: BasicSR validates in the first one alone while the others wait."""
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
    mend_load_resume_state()
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
        torch.distributed.init_process_group('gloo', timeout=PATIENCE)
        return
    if local_rank >= count:
        raise UserError(
            f'process {local_rank} of this node has no GPU: {count} visible. Start at most {count} processes '
            'a node, or set num_gpu: 0 to train on the CPU.'
        )
    torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group(backend, timeout=PATIENCE)


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


def mend_load_resume_state():
    """BasicSR asks for the current GPU when it resumes, with no GPU as well."""
    from basicsr import train

    if 'torch.cuda.current_device()' in inspect.getsource(train.load_resume_state):
        train.load_resume_state = load_resume_state


def load_resume_state(opt):
    """Reads the training state to go on from: the newest with `--auto_resume`, else `path.resume_state`.

    Args:
        opt: BasicSR's options; `path.resume_state` and the networks' paths are filled in.

    Returns:
        dict | None: The state on the CPU (load_state_dict moves it), None to start anew.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    import torch
    from basicsr.utils import check_resume

    if opt['auto_resume']:
        folder = opt['path']['training_states']
        names = os.listdir(folder) if os.path.isdir(folder) else []
        stems = [os.path.splitext(name)[0] for name in names if name.endswith('.state')]
        iterations = [int(stem) for stem in stems if stem.isdigit()]
        if iterations:
            opt['path']['resume_state'] = os.path.join(folder, f'{max(iterations)}.state')
    path = opt['path'].get('resume_state')
    if path is None:
        return None
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(f'path.resume_state: {path} does not exist') from None
    except Exception as error:  # torch.load names no common class for a damaged and for an unsafe file
        raise UserError(
            f'path.resume_state: {path} is not a training state that can be read safely: {str(error).splitlines()[0]}'
        ) from error
    check_resume(opt, state['iter'])
    return state
