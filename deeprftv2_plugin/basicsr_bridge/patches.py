"""Patches for BasicSR 1.4.2, its last release, on current versions of Python, PyTorch and torchvision.

A patch for a defect is applied only if a trial shows that the defect is present. The methods that are replaced to add a
feature (`model_to_device`, `load_network` and the saving methods) rely on this version.
"""

import contextlib
import importlib
import importlib.util
import os
import queue
import runpy
import sys
import types
from collections.abc import Iterator
from typing import Any

from deeprftv2_plugin.basicsr_bridge.replacement import replace
from deeprftv2_plugin.utils.errors import UserError, shortened

VERSION = '1.4.2'
INSTALL = f'pip install --no-build-isolation basicsr=={VERSION}'
if sys.version_info >= (3, 13):  # see that folder for the reason
    INSTALL = f'PYTHONPATH="$PWD/scripts/basicsr_build" {INSTALL}, in a checkout of this plugin'
LISTED = 20
"""Maximum number of parameter names in a warning."""
_applied = False


def apply() -> None:
    """Import BasicSR and patch it. Further calls have no effect.

    Raises:
        UserError: BasicSR is not installed or has another version, or is hidden by another package of the same name.
    """
    global _applied
    if _applied:
        return
    require_basicsr()
    define_torchvision_operators()
    alias_functional_tensor()
    with distutils_for_import():
        importlib.import_module('basicsr')
    patch_model_to_device()
    patch_load_network()
    patch_resume_training()
    patch_saving()
    patch_print_network()
    patch_file_reading()
    patch_image_writing()
    patch_prefetcher()
    _applied = True


def require_basicsr() -> None:
    """Check, without importing it, that the package ``basicsr`` is installed and is BasicSR 1.4.2.

    Some forks of BasicSR install a package of the same name without registries, and a folder named basicsr in the
    working directory hides the installed package.

    Raises:
        UserError: BasicSR is missing or has another version, or the package is another one.
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
    version_file = next(filter(os.path.isfile, (os.path.join(folder, 'version.py') for folder in folders)))
    found = runpy.run_path(version_file).get('__version__')
    if found != VERSION:
        raise UserError(
            f'BasicSR {found} is installed in {os.path.dirname(version_file)}, but the plugin patches only BasicSR '
            f'{VERSION}. Install it: {INSTALL}'
        )


def define_torchvision_operators() -> None:
    """Declare operators that torchvision lacks if its C++ library does not match the installed torch.

    Nothing in this package calls them, but without them torchvision cannot be imported.
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


def alias_functional_tensor() -> None:
    """Provide the module from which BasicSR imports `rgb_to_grayscale`, which torchvision 0.17 removed."""
    name = 'torchvision.transforms.functional_tensor'
    if not _importable(name):
        from torchvision.transforms import functional

        module = types.ModuleType(name, 'The part of the removed module that BasicSR uses.')
        vars(module).update(rgb_to_grayscale=functional.rgb_to_grayscale)
        replace(sys.modules, name, module, 'torchvision removed the module, basicsr.data.degradations imports it')


@contextlib.contextmanager
def distutils_for_import() -> Iterator[None]:
    """Provide `distutils.version.LooseVersion` for the import of `basicsr.archs.arch_util`.

    Python 3.12 removed distutils. The substitute is removed after the import, so that other packages do not use it.
    """
    if _importable('distutils.version'):
        yield
        return
    from torch.torch_version import TorchVersion

    version = types.ModuleType('distutils.version')
    vars(version).update(LooseVersion=TorchVersion)
    reason = 'Python removed distutils, basicsr.archs.arch_util imports it'
    with (
        replace(sys.modules, 'distutils', types.ModuleType('distutils'), reason),
        replace(sys.modules, 'distutils.version', version, reason),
    ):
        yield


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def patch_model_to_device() -> None:
    """Let models run in several processes on the CPU. BasicSR always passes a GPU to DistributedDataParallel.

    On a GPU, and in a single process, BasicSR's own method is called.
    """
    from basicsr.models.base_model import BaseModel
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device

    def model_to_device(self: Any, net: nn.Module) -> nn.Module:
        if not self.opt['dist'] or self.device.type == 'cuda':
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    replace(BaseModel, 'model_to_device', model_to_device, 'several processes on the CPU')


def patch_load_network() -> None:
    """Let models load checkpoints of this package and of the authors, without running code from a file."""
    from basicsr.models.base_model import BaseModel

    reason = ".safetensors files, the authors' checkpoints, and errors that name what does not fit"
    replace(BaseModel, 'load_network', load_network, reason)


def load_network(self: Any, net: Any, load_path: str, strict: bool = True, param_key: str | None = None) -> str:
    """Load a checkpoint of this package, BasicSR or the authors into a network.

    Args:
        self: BasicSR model.
        net: The network, wrapped or not.
        load_path: .pth or .safetensors file.
        strict: Whether all names and shapes must match. Otherwise those that do not are logged.
        param_key: Name of the set of weights in the file, see `checkpoints.read_weights`.

    Returns:
        The set of weights that was loaded.

    Raises:
        UserError: The file is missing, damaged, unsafe, or (with `strict`) of another network.
    """
    from basicsr.utils import get_root_logger

    from deeprftv2_plugin import checkpoints

    net, logger = self.get_bare_model(net), get_root_logger()
    loaded = checkpoints.load_file(net, load_path, param_key, strict)
    logger.info(f'{type(net).__name__} loaded from {load_path}: weights {loaded.weights}.')
    if loaded.left_out:
        more = ', ...' if len(loaded.left_out) > LISTED else ''
        names = f'{", ".join(map(shortened, loaded.left_out[:LISTED]))}{more}'
        logger.warning(f'{load_path}: {len(loaded.left_out)} names do not fit: {names}')
    return loaded.weights


def patch_resume_training() -> None:
    """Check the shapes of a training state. Fused optimizers crash if they do not match."""
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training.resuming import prepare

    original = BaseModel.resume_training

    def resume_training(self: Any, resume_state: dict) -> None:
        prepare(self, resume_state)
        original(self, resume_state)

    replace(BaseModel, 'resume_training', resume_training, 'a state of another network or optimizer is an error')


def patch_saving() -> None:
    """Let models save atomically and raise errors.

    BasicSR writes to the final file, which is incomplete if the run is killed, and ignores errors after three tries.
    """
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training import saving

    reason = 'atomic saving, errors that are raised, .safetensors files, states with the position in the data'
    for method in (saving.save_network, saving.save_training_state):
        replace(BaseModel, method.__name__, method, reason)


def patch_print_network() -> None:
    """Log a network in one line. BasicSR lists all of its modules in hundreds of lines."""
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import get_root_logger

    original = BaseModel.print_network

    def print_network(self: Any, net: Any) -> None:
        if 'debug' in self.opt['name']:  # BasicSR's criterion for --debug
            original(self, net)
            return
        bare = self.get_bare_model(net)
        count = sum(weight.numel() for weight in bare.parameters())
        get_root_logger().info(f'Network {type(bare).__name__}: {count:,} parameters. --debug lists its modules.')

    replace(BaseModel, 'print_network', print_network, 'one line per network in the log')


def patch_file_reading() -> None:
    """Let BasicSR's datasets open only regular files of limited size. Reading a pipe or a device can wait forever."""
    from basicsr.data import data_util, video_test_dataset
    from basicsr.utils.file_client import HardDiskBackend

    from deeprftv2_plugin.data.storage.images import MAX_BYTES, StoredImage
    from deeprftv2_plugin.utils.regular_files import open_regular

    read_frames = data_util.read_img_seq

    def get(self: Any, filepath: object) -> bytes:
        return StoredImage(str(filepath)).read_bytes()

    def read_img_seq(path: list[str], *args: Any, **settings: Any) -> Any:
        for each in path:
            open_regular(each, MAX_BYTES).close()
        return read_frames(path, *args, **settings)

    reason = 'only regular files are opened, errors that name the file'
    replace(HardDiskBackend, 'get', get, reason)
    replace(video_test_dataset, 'read_img_seq', read_img_seq, reason)


def patch_image_writing() -> None:
    """Let BasicSR's models save images atomically, under any name. OpenCV crashes on names that are not UTF-8."""
    from basicsr.models import hifacegan_model, sr_model, stylegan2_model, video_base_model, video_recurrent_model

    from deeprftv2_plugin.data.storage.images import write_png
    from deeprftv2_plugin.utils.atomic_io import advice

    def imwrite(img: Any, file_path: str) -> None:
        try:
            write_png(file_path, img)
        except OSError as error:
            text = f'the image {file_path} could not be written: {error.strerror or error}'
            raise UserError(f'{text}. {advice(error)}') from error

    for module in (hifacegan_model, sr_model, stylegan2_model, video_base_model, video_recurrent_model):
        replace(module, 'imwrite', imwrite, 'names in any encoding, errors that name the file')


def patch_prefetcher() -> None:
    """Pass errors of the dataset on to the training.

    With ``prefetch_mode: cpu``, an error silently stops BasicSR's thread, and the training waits for it forever.
    """
    from basicsr.data import prefetch_dataloader

    original: Any = prefetch_dataloader.PrefetchGenerator
    if not _loses_errors(original):
        return

    class PrefetchGenerator(original):
        error: Exception | None = None

        def run(self) -> None:
            try:
                super().run()  # puts None into the queue at the end
            except Exception as error:
                self.error = error
                self.queue.put(None)

        def __next__(self) -> Any:
            try:
                return super().__next__()
            except StopIteration:
                raise self.error or StopIteration from None

    replace(prefetch_dataloader, 'PrefetchGenerator', PrefetchGenerator, 'errors of the dataset with prefetch_mode')


def _loses_errors(generator_class: Any) -> bool:
    def failing() -> Iterator[None]:
        raise LookupError
        yield

    try:
        generator_class.run(types.SimpleNamespace(generator=failing(), queue=queue.Queue()))
    except LookupError:
        return True
    return False
