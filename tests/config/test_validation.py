"""Valid options, and unknown, missing and misplaced keys and names."""

import pytest

from deeprftv2_plugin import config
from deeprftv2_plugin.comparison.study import read_study
from deeprftv2_plugin.comparison.training import run_options
from deeprftv2_plugin.config.validation import validate
from deeprftv2_plugin.utils.errors import UserError
from tests.config.checking import OPTIONS, TEST, TRAIN, check

STUDIES = sorted({*OPTIONS.glob('compare_*.yml'), *OPTIONS.glob('study_*.yml')})


@pytest.mark.parametrize('path', sorted({*OPTIONS.glob('*.yml')} - {*STUDIES}), ids=lambda path: path.name)
def test_shipped_option_files_are_valid(path):
    check(path=str(path), is_train=path.name.startswith('train'))


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.name)
def test_every_training_of_a_shipped_study_is_valid(path):
    study = read_study(str(path))
    total = study.recipe['train']['total_iter']
    for name, network in study.candidates.items():
        if 'spandrel' not in network['type']:  # an extra
            run_options(name, network, study.recipe, study.seeds[0], total, study.changes.get(name, {}))


@pytest.mark.parametrize('path', sorted(OPTIONS.glob('study_*.yml')), ids=lambda path: path.name)
def test_kernels_of_a_study_are_as_large_in_validation_as_in_training(path):
    study = read_study(str(path))
    size = study.recipe['datasets']['train']['gt_size']
    assert [network['kernel_window'] for network in study.candidates.values()] == [[size, size]] * len(study.candidates)


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


def test_basicsr_learns_that_lower_values_are_better():
    overrides = ['val:metrics={mae: {type: mae}, psnr: {type: psnr}, ratio: {type: error_ratio, better: higher}}']
    options = config.load(TRAIN, overrides)
    validate(options, TRAIN, True, overrides)
    found = {name: metric.get('better') for name, metric in options['val']['metrics'].items()}
    assert found == {'mae': 'lower', 'psnr': None, 'ratio': 'higher'}  # BasicSR's default is higher


def test_basicsr_model_needs_a_schedule():
    with pytest.raises(UserError, match='train.scheduler is missing'):
        check(
            'model_type=SRModel',
            'train={total_iter: 1, optim_g: {type: Adam}, pixel_opt: {type: L1Loss}}',
            'val={save_img: false, val_freq: 1}',
        )
