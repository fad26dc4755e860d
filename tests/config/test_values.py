"""Wrong values of known keys, and text that looks like another type."""

import pytest

from deeprftv2_plugin import config
from deeprftv2_plugin.config.validation import validate
from deeprftv2_plugin.utils.errors import UserError
from tests.config.checking import TRAIN, check


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
        ('train:ema_decay=1', 'train.ema_decay is 1, expected a number in [0, 1)'),
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
