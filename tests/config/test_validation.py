"""Wrong option files and their error messages."""

from pathlib import Path

import pytest
from torch import nn

import deeprftv2_plugin
from deeprftv2_plugin import config
from deeprftv2_plugin.comparison import training
from deeprftv2_plugin.comparison.study import read_study
from deeprftv2_plugin.config.validation import validate
from deeprftv2_plugin.utils.errors import UserError

OPTIONS = Path(deeprftv2_plugin.__file__).parents[1] / 'options'
TRAIN, TEST = str(OPTIONS / 'train_gopro.yml'), str(OPTIONS / 'test_gopro.yml')


@pytest.fixture(autouse=True, scope='module')
def registered():
    deeprftv2_plugin.register()


def check(*overrides, path=TRAIN, is_train=True):
    validate(config.load(path, overrides), path, is_train, overrides)


STUDIES = sorted({*OPTIONS.glob('compare_*.yml'), *OPTIONS.glob('study_*.yml')})


@pytest.mark.parametrize('path', sorted({*OPTIONS.glob('*.yml')} - {*STUDIES}), ids=lambda path: path.name)
def test_shipped_option_files_are_valid(path):
    check(path=str(path), is_train=path.name.startswith('train'))


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.name)
def test_every_training_of_a_shipped_study_is_valid(path, tmp_path, monkeypatch):
    study, planned = read_study(str(path)), []
    monkeypatch.setattr(training, '_finished', lambda folder, run: planned.append(run) or run)
    list(training.train_all(study.candidates, study.recipe, study.seeds, tmp_path, changes=study.changes))
    assert len(planned) == len(study.candidates) * len(study.seeds)
    for run in planned:
        if 'spandrel' not in run['options']['network_g']['type']:  # an extra
            file = tmp_path / 'options.yml'
            file.write_text(config.reading.dump(run['options']))
            check(path=str(file))


@pytest.mark.parametrize(
    'overrides',
    [
        [
            'train:stages=~',
            'datasets:train:gt_size=[64, 48]',
            'datasets:train:batch_size_per_gpu=1',
            'datasets:train:prefetch_mode=cpu',
            'datasets:train:pin_memory=true',
        ],
        ['datasets:val_2={name: x, type: SyntheticBlurDataset, dataroot_gt: x, samples_per_image: 2}'],
        ['datasets:val:meta_info_file=list.txt', 'datasets:train:use_shuffle=true'],
        ['train:perceptual_opt={type: PerceptualLoss, layer_weights: {conv5_4: 1}, perceptual_weight: 1}'],
        ['train:pixel_opt={type: MultiScaleLoss, losses: [{type: L1Loss}, {type: FFTL1Loss}]}'],
        [
            'train:optim_g={type: SGD, lr: 1e-2, momentum: 0.9}',
            'train:scheduler={type: StepLR, step_size: 10}',
        ],
        ['train:scheduler={type: MultiStepLR, milestones: [1], gamma: 0.5}', 'find_unused_parameters=true'],
        ['network_g={type: SwinIR, upscale: 1, img_size: 64}', 'path:param_key_g=params_ema'],
        ['network_g={type: KernelHead, backbone: {type: SwinIR, upscale: 1}, estimator: Convolution}'],
        ['network_g={type: AblatedDeepRFTv2, variant: T, full_estimator: LargeKernel, width: 8}'],
        ['val:val_freq=5e3', 'logger:save_checkpoint_freq=5e3'],  # as BasicSR's own option files write it
        ['val:metrics:ssim:better=higher', 'path:ignore_resume_networks=[network_g]', 'num_gpu=0'],
        ['datasets:val={name: x, type: PairedImageDataset, io_backend: {type: lmdb, readahead: true}}'],
        [
            'train:stages=~',
            'datasets:train={name: x, type: MixedDataset, gt_size: 64, num_worker_per_gpu: 1, batch_size_per_gpu: 1, '
            'parts: [{type: PairedDeblurDataset, dataroot: x, use_flip: false, weight: 2}, '
            '{type: PairedImageDataset, dataroot_lq: x, io_backend: {type: disk}}, '
            '{type: MixedDataset, parts: [{type: SyntheticBlurDataset, samples_per_image: 2, name: y}]}]}',
        ],
    ],
)
def test_valid_options_pass(overrides):
    check(*overrides)


@pytest.mark.parametrize(
    ('override', 'key', 'nearest'),
    [
        ('modle_type=SRModel', 'modle_type', 'model_type'),
        ('model_type=DeepRFTv2Modell', 'model_type', 'DeepRFTv2Model'),
        ('network_g:type=DeepRFT', 'network_g.type', 'DeepRFTv2'),
        ('network_g:varient=B', 'network_g.varient', 'variant'),
        ('train:clip_grad_nrom=1', 'train.clip_grad_nrom', 'clip_grad_norm'),
        ('train:freqency_opt={type: FourierLoss}', 'train.freqency_opt', 'frequency_opt'),
        ('train:frequency_opt:type=FurierLoss', 'train.frequency_opt.type', 'FourierLoss'),
        ('train:frequency_opt:loss_wieght=1', 'train.frequency_opt.loss_wieght', 'loss_weight'),
        ('train:optim_g:type=AdamX', 'train.optim_g.type', 'Adam'),
        ('train:optim_g:beta=1', 'train.optim_g.beta', 'betas'),
        ('train:scheduler:type=CosineLR', 'train.scheduler.type', 'CosineAnnealingLR'),
        ('train:scheduler:t_max=1', 'train.scheduler.t_max', 'T_max'),
        ('val:metric=1', 'val.metric', 'metrics'),
        ('val:overlapp=1', 'val.overlapp', 'overlap'),
        ('val:metrics:psnr:type=calculate_psrn', 'val.metrics.psnr.type', 'calculate_psnr'),
        ('val:metrics:psnr:crop_boarder=1', 'val.metrics.psnr.crop_boarder', 'crop_border'),
        ('datasets:train:type=PairedDeblur', 'datasets.train.type', 'PairedDeblurDataset'),
        ('datasets:train:gt_sise=1', 'datasets.train.gt_sise', 'gt_size'),
        ('datasets:train:batch_size=1', 'datasets.train.batch_size', 'batch_size_per_gpu'),
        ('datasets:val:dataroot_gd=x', 'datasets.val.dataroot_gd', 'dataroot_'),
        ('path:pretrain_network=x', 'path.pretrain_network', 'pretrain_network_g'),
        ('path:strict_load=x', 'path.strict_load', 'strict_load_g'),
        ('logger:print_frequency=1', 'logger.print_frequency', 'print_freq'),
        ('logger:wandb:projekt=1', 'logger.wandb.projekt', 'project'),
        ('dist_params:backends=1', 'dist_params.backends', 'backend'),
    ],
)
def test_misspelled_name_is_reported_with_the_nearest_known_one(override, key, nearest):
    with pytest.raises(UserError) as caught:
        check(override)
    message = str(caught.value)
    assert message.startswith(f'{TRAIN}: {key} ')
    assert '_delete_' not in message
    assert f'Did you mean {nearest}' in message


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('train:val_freq=1', 'train.val_freq is unknown'),
        ('path:models=x', 'path.models is unknown'),
        ('rank=1', 'rank is unknown'),
        ('name=true', 'name is True, expected text'),
        ('name=~', 'name is missing'),
        ('num_gpu=some', "num_gpu is 'some', expected auto or an integer >= 0"),
        ('network_g=~', 'network_g is missing'),
        ('network_g=7', 'network_g is 7, expected a section'),
        ('train:total_iter=~', 'train.total_iter is missing'),
        ('train:scheduler={type: StepLR}', 'train.scheduler.step_size is missing'),
        ('val:metrics:psnr={type: calculate_psnr}', 'val.metrics.psnr.crop_border is missing'),
        ('datasets:valid={name: x}', 'datasets.valid is unknown. Expected train, val'),
        ('datasets:test={name: x}', 'datasets.test is unknown. Expected train, val'),
        ('datasets:train:num_worker_per_gpu=~', 'datasets.train.num_worker_per_gpu is missing'),
        ('train:stages=[{gt_size: 64}]', 'train.stages[0].batch_size_per_gpu is None'),
        ('datasets:val={name: x, type: PairedImageDataset, io_backend: {type: disc}}', 'Did you mean disk?'),
        ('train:pixel_opt={type: MultiScaleLoss, losses: [{type: L1Los}]}', 'train.pixel_opt.losses.0.type'),
        ('model_type=SRModel', 'train.clip_grad_norm is unknown'),
    ],
)
def test_other_errors_name_the_key(override, words):
    with pytest.raises(UserError) as caught:
        check(override)
    assert words in str(caught.value)


def test_basicsr_model_lists_the_optimizers_it_takes():
    with pytest.raises(UserError, match='train.optim_g.type is AdamW, but SRModel takes only Adam'):
        check(
            'model_type=SRModel',
            'train={total_iter: 1, optim_g: {type: AdamW}}',
            'val={save_img: false, val_freq: 1}',
        )


def test_inherited_key_is_reported_with_delete_hint(tmp_path):
    file = tmp_path / 'swinir.yml'
    file.write_text(f'_base_: {TRAIN}\nnetwork_g: {{type: SwinIR}}')
    with pytest.raises(UserError, match='network_g.variant is unknown.*_delete_: true'):
        check(path=str(file))
    file.write_text(f'_base_: {TRAIN}\nnetwork_g: {{_delete_: true, type: SwinIR}}')
    check(path=str(file))


def test_training_data_is_refused_in_a_test():
    with pytest.raises(UserError, match='datasets.train is unknown. Expected test'):
        check('datasets:train={name: x, type: PairedDeblurDataset}', path=TEST, is_train=False)


def test_test_without_data_is_refused():
    with pytest.raises(UserError, match='datasets is empty. Expected at least one dataset'):
        check('datasets={}', path=TEST, is_train=False)


def test_number_of_gpus_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    with pytest.raises(UserError, match='num_gpu is 1, but PyTorch finds no GPU'):
        check('num_gpu=1')


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        ('{type: PairedDeblur}', 'datasets.train.parts.1.type is .* Did you mean PairedDeblurDataset'),
        ('{type: PairedDeblurDataset, use_flop: true}', 'datasets.train.parts.1.use_flop is unknown. .* use_flip'),
        ('{type: PairedDeblurDataset, wieght: 1}', 'datasets.train.parts.1.wieght is unknown. Did you mean weight'),
        ('{type: PairedDeblurDataset, batch_size_per_gpu: 1}', 'parts.1.batch_size_per_gpu is unknown'),
        ('{type: PairedDeblurDataset, gt_size: 8}', 'parts.1.gt_size is set for a part, but all parts share it'),
        ('{dataroot: x}', 'datasets.train.parts.1.type is missing'),
        ('{type: MixedDataset, parts: [{type: X}]}', 'datasets.train.parts.1.parts.0.type is'),
        ('{type: MixedDataset}', 'datasets.train.parts.1.parts is missing'),
    ],
)
def test_parts_of_a_mixture_are_checked_like_datasets(part, message):
    mixture = 'name: x, type: MixedDataset, num_worker_per_gpu: 1'
    with pytest.raises(UserError, match=message):
        check(f'datasets:train={{{mixture}, parts: [{{type: PairedDeblurDataset, dataroot: x}}, {part}]}}')


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('train:total_iter=10k', "train.total_iter is '10k', expected an integer >= 1"),
        ('train:total_iter=1e5', 'train.total_iter is 100000.0, expected an integer'),
        ('train:total_iter=true', 'train.total_iter is True, expected an integer'),
        ('train:total_iter=999999999999999999999', 'train.total_iter is 1e+21, expected an integer'),
        ('train:clip_grad_norm=.inf', 'train.clip_grad_norm is inf, expected a number >= 0'),
        ('train:optim_g:maximize=true', 'train.optim_g.maximize is True, expected false'),
        ('train:optim_g:foreach=1', 'train.optim_g.foreach is 1, expected true or false or ~'),
        ('train:optim_g={type: SGD, lr: 1, momentum: 1}', 'train.optim_g.momentum is 1, expected a number in [0, 1)'),
        ('train:optim_g={type: [SGD], lr: 1}', "train.optim_g.type is ['SGD'], which is unknown"),
        ('train:scheduler={type: StepLR, step_size: 1, gamma: -1}', 'train.scheduler.gamma is -1, expected'),
        (
            'train:scheduler={type: CyclicLR, base_lr: 0.1, max_lr: 1, base_momentum: 2}',
            'train.scheduler.base_momentum is 2, expected a number in [0, 1)',
        ),
        ('train:scheduler={type: LinearLR, total_iters: 0}', 'train.scheduler.total_iters is 0, expected'),
        ('train:scheduler={type: ChainedScheduler, schedulers: [1]}', 'train.scheduler.schedulers is [1], expected'),
        (
            'train:scheduler={type: ChainedScheduler, schedulers: [{type: StepLR, step_size: 0}]}',
            'train.scheduler.schedulers.0.step_size is 0, expected',
        ),
        ('train:pixel_opt:loss_weight=-1', 'train.pixel_opt.loss_weight is -1, expected a number in [0, 1000000.0]'),
        (
            'train:pixel_opt={type: L1Loss, reduction: none}',
            "train.pixel_opt.reduction is 'none', expected mean or sum",
        ),
        ('train:pixel_opt={type: MultiScaleLoss, losses: [{}]}', 'train.pixel_opt.losses.0.type is missing'),
        ('network_g={type: KernelHead, backbone: {type: SwinIR, upscal: 1}}', 'network_g.backbone.upscal is unknown'),
        ('network_g={type: KernelHead, backbone: {}}', 'network_g.backbone.type is missing'),
        ('network_g={type: KernelHead, backbone: SwinIR}', "network_g.backbone is 'SwinIR', expected"),
        ('network_g={type: AblatedDeepRFTv2, widht: 8}', 'network_g.widht is unknown. Did you mean width?'),
        ('network_g:stages=1000', 'network_g.stages is 1000, expected an integer in [1, 100]'),
        ('network_g:kernel_depths=[1, 1, 1, 100000]', 'network_g.kernel_depths is [1, 1, 1, 100000], expected numbers'),
        ('datasets:train:num_worker_per_gpu=100000', 'datasets.train.num_worker_per_gpu is 100000, expected'),
        ('datasets:train:dataset_enlarge_ratio=0', 'datasets.train.dataset_enlarge_ratio is 0, expected'),
        ('val:val_freq=2.5', 'val.val_freq is 2.5, expected a number >= 1 without a fraction'),
        ('val:metrics:psnr:input_order=CHW', "val.metrics.psnr.input_order is 'CHW', expected HWC"),
        ('val:metrics:psnr:crop_border=-1', 'val.metrics.psnr.crop_border is -1, expected'),
        ('val:metrics:psnr:better=Higher', "val.metrics.psnr.better is 'Higher', expected higher or lower"),
        ('val:pad=64', 'val.pad is 64, expected a list of 2 integers >= 0'),
        ('val={}', 'val.val_freq is missing'),
        ('logger:keep_checkpoints=-1', 'logger.keep_checkpoints is -1, expected'),
        ('logger:keep_checkpoints=0.5', 'logger.keep_checkpoints is 0.5, expected'),
        ('datasets:val:persistent_workers=true', 'datasets.val.persistent_workers is true, but'),
        (
            'datasets:val={name: x, type: SyntheticBlurDataset, blurs: [{type: Defocus, radios: 1}]}',
            'datasets.val.blurs.0.radios is unknown. Did you mean radius?',
        ),
        (
            'datasets:val={name: x, type: SyntheticBlurDataset, blurs: [{type: Defocus, weight: 0}]}',
            'datasets.val.blurs.0.weight is 0, expected a number > 0',
        ),
        ('train:ema_decay=1.5', 'train.ema_decay is 1.5, expected a number in [0, 1]'),
        ('train:ema_decay=~', 'train.ema_decay is None, expected a number'),
        ('train:clip_grad_norm=-1', 'train.clip_grad_norm is -1, expected a number >= 0'),
        ('train:clip_grad_norm=true', 'train.clip_grad_norm is True, expected a number'),
        ('train:bf16=1', 'train.bf16 is 1, expected true or false'),
        ('train:pixel_opt=L1Loss', "train.pixel_opt is 'L1Loss', expected a section of keys"),
        ('train:optim_g:lr=-1', 'train.optim_g.lr is -1, expected a number in [0, 1000]'),
        ('train:optim_g:lr=fast', "train.optim_g.lr is 'fast', expected a number"),
        ('train:optim_g:lr=true', 'train.optim_g.lr is True, expected a number'),
        ('train:optim_g:betas=[0.9]', 'train.optim_g.betas is [0.9], expected a list of 2 numbers in [0, 1)'),
        ('train:optim_g:betas=[0.9, 1]', 'train.optim_g.betas is [0.9, 1], expected'),
        ('train:scheduler:eta_min=low', "train.scheduler.eta_min is 'low', expected a number"),
        ('train:scheduler={type: StepLR, step_size: 0}', 'train.scheduler.step_size is 0, expected'),
        ('train:frequency_opt:loss_weight=much', "train.frequency_opt.loss_weight is 'much', expected a number"),
        ('train:stages=[{gt_size: [64], batch_size_per_gpu: 1}]', 'train.stages.0.gt_size is [64], expected'),
        (
            'datasets:train:batch_size_per_gpu=0',
            'datasets.train.batch_size_per_gpu is 0, expected an integer',
        ),
        ('datasets:train:gt_size=[64, 64, 64]', 'gt_size is [64, 64, 64], expected an integer >= 1 or a list'),
        ('datasets:train:num_worker_per_gpu=-1', 'datasets.train.num_worker_per_gpu is -1, expected'),
        ('datasets:train:prefetch_mode=gpu', "datasets.train.prefetch_mode is 'gpu', expected cpu or cuda"),
        ('datasets:train:dataroot=[7]', 'datasets.train.dataroot is [7], expected text'),
        (
            'network_g:width=wide',
            "network_g.width is 'wide', expected an integer or a list of integers",
        ),
        ('network_g:full_encoder=[LocalNAF, 1]', 'network_g.full_encoder is'),
        ('network_g={type: SwinIR, embed_dim: many}', "network_g.embed_dim is 'many', expected a number"),
        ('val:val_freq=0', 'val.val_freq is 0, expected a number >= 1'),
        ('val:save_img=1', 'val.save_img is 1, expected true or false'),
        ('val:tile=[512]', 'val.tile is [512], expected'),
        ('val:overlap=-1', 'val.overlap is -1, expected'),
        ('val:metrics:psnr:better=best', "val.metrics.psnr.better is 'best', expected higher or lower"),
        ('val:metrics:psnr:crop_border=four', "val.metrics.psnr.crop_border is 'four', expected an integer"),
        ('logger:print_freq=0', 'logger.print_freq is 0, expected'),
        ('logger:keep_checkpoints=few', "logger.keep_checkpoints is 'few', expected"),
        ('path:strict_load_g=maybe', "path.strict_load_g is 'maybe', expected true or false"),
        ('path:pretrain_network_g=[a.pth]', "path.pretrain_network_g is ['a.pth'], expected text"),
        ('dist_params:backend=tcp', "dist_params.backend is 'tcp', expected nccl, gloo or mpi"),
        ('manual_seed=x', "manual_seed is 'x', expected an integer in [0, 2147483647]"),
        ('manual_seed=2147483648', 'manual_seed is 2147483648, expected an integer in [0, 2147483647]'),
        ('manual_seed=-1', 'manual_seed is -1, expected'),
        ('manual_seed=1.5', 'manual_seed is 1.5, expected'),
        ('scale=0', 'scale is 0, expected an integer >= 1'),
    ],
)
def test_wrong_value_is_reported_with_key_and_expectation(override, words):
    with pytest.raises(UserError) as caught:
        check(override)
    assert str(caught.value).startswith(f'{TRAIN}: {words.split()[0]}') or words.startswith('gt_size')
    assert words in str(caught.value)


@pytest.mark.parametrize('value', ['2024', '001', '2024_01', '1e3', '2024-01-31', '0.10', '12:30', '"7"', '9' * 30])
def test_text_may_look_like_a_number_or_a_date(value, tmp_path):
    file = tmp_path / 'numbers.yml'
    file.write_text(
        f'_base_: {TRAIN}\nname: {value}\ndatasets:\n  val: {{_delete_: true, name: {value}, type: MixedDataset,\n'
        f'    parts: [{{type: SingleImageDataset, dataroot_lq: [{value}, b], io_backend: {{type: disk}}}}]}}\n'
    )
    override = f'path:pretrain_network_g={value}'
    opt = config.load(str(file), [override])
    validate(opt, str(file), True, [override])
    expected = value.strip('"')
    assert opt['name'] == opt['datasets']['val']['name'] == opt['path']['pretrain_network_g'] == expected
    assert opt['datasets']['val']['parts'][0]['dataroot_lq'] == [expected, 'b']


def test_wrong_values_do_not_become_text_or_none():
    for override in ('train:optim_g:foreach=1', 'datasets:train:max_damaged=1.5', 'val:tile=-1'):
        with pytest.raises(UserError, match='expected'):
            check(override)


@pytest.mark.parametrize(
    ('overrides', 'words'),
    [
        (['datasets:train:prefetch_mode=cpu', 'datasets:train:num_worker_per_gpu=0'], 'num_worker_per_gpu to at least'),
        (['datasets:train:prefetch_mode=cuda', 'num_gpu=0'], 'prefetch_mode is cuda, but the training uses no GPU'),
    ],
)
def test_prefetching_that_cannot_work_is_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        check(*overrides)


def test_prefetching_to_a_gpu_needs_pinned_memory(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    check('datasets:train:prefetch_mode=cuda')
    with pytest.raises(UserError, match='pin_memory is false, but prefetch_mode cuda needs'):
        check('datasets:train:prefetch_mode=cuda', 'datasets:train:pin_memory=false')


def test_basicsr_model_needs_a_schedule():
    with pytest.raises(UserError, match='train.scheduler is missing'):
        check(
            'model_type=SRModel',
            'train={total_iter: 1, optim_g: {type: Adam}, pixel_opt: {type: L1Loss}}',
            'val={save_img: false, val_freq: 1}',
        )


def test_bounds_do_not_apply_to_classes_of_other_packages(foreign):
    check('network_g={type: ForeignNet, width: 100000}')


@pytest.fixture
def foreign():
    """A model, a dataset and a network of another package."""
    from basicsr.utils import registry

    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    from deeprftv2_plugin.models import DeepRFTv2Model

    class ForeignModel(DeepRFTv2Model):
        pass

    class ForeignDataset(PairedDeblurDataset):
        pass

    class ForeignNet(nn.Module):
        def __init__(self, width: int, **kwargs):
            super().__init__()

    kinds = {ForeignModel: registry.MODEL_REGISTRY, ForeignDataset: registry.DATASET_REGISTRY}
    kinds[ForeignNet] = registry.ARCH_REGISTRY
    for cls, known in kinds.items():
        known._obj_map[cls.__name__] = cls
    yield
    for cls, known in kinds.items():
        del known._obj_map[cls.__name__]


@pytest.mark.parametrize(
    ('overrides', 'key'),
    [
        (['model_type=ForeignModel', 'train:mixup=0.5'], 'train.mixup is unknown'),
        (['model_type=ForeignModel', 'mode=x'], 'mode is unknown'),
        (['model_type=ForeignModel', 'val:mode=x'], 'val.mode is unknown'),
        (['datasets:val:type=ForeignDataset', 'datasets:val:cache=x'], 'datasets.val.cache is unknown'),
        (['network_g={type: ForeignNet, width: 1, depth: 2}'], 'network_g.depth is unknown'),
    ],
)
def test_undeclared_key_of_another_package_is_a_warning(foreign, overrides, key):
    with pytest.warns(UserWarning, match=key):
        check(*overrides)


def test_declared_keys_of_another_package_are_still_checked(foreign):
    with pytest.raises(UserError, match="network_g.width is 'x', expected an integer"):
        check('network_g={type: ForeignNet, width: x}')
    with pytest.raises(UserError, match='train.total_iter is 0'):
        check('model_type=ForeignModel', 'train:total_iter=0')
