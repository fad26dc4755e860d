"""The options of this package's classes, and those shared by BasicSR's pipelines and all of its models.

`basicsr_schema` has the options of BasicSR's other classes. The options of networks, losses, metrics, optimizers and
schedules are their keyword arguments, see `signatures`.
"""

from typing import Annotated, Any, Literal

from deeprftv2_plugin.config.kinds import (
    BelowOne,
    Count,
    Crop,
    Fraction,
    Name,
    Natural,
    NotNegative,
    Option,
    Positive,
    Range,
    Settings,
    Whole,
)

Table = dict[str, Option]
Interval = Annotated[float, Range(1), Whole()]
"""Iterations, which BasicSR's own option files write as 5e3."""

ROOT: Table = {
    'name': Option(Name, 'Name of the run. Its files are written to experiments/NAME or results/NAME.'),
    'model_type': Option(str, 'A registered model, such as DeepRFTv2Model or SRModel.'),
    'num_gpu': Option(Literal['auto'] | Natural, 'Number of GPUs; 0 for the CPU, auto for all visible GPUs.'),
    'scale': Option(Count, 'Factor by which the network enlarges an image.', 1),
    'manual_seed': Option(Annotated[int, Range(0, 2**31 - 1)], 'Seed of all random numbers; random if absent.', None),
    'find_unused_parameters': Option(bool, 'Passed to DistributedDataParallel.', False),
    'custom_imports': Option(
        str | list[str] | Settings, 'Modules to import first, which register your own classes.', None
    ),
    'datasets': Option(Settings, 'Datasets: train, val, val_2, ... for training; test, test_2, ... for a test.'),
    'path': Option(Settings, 'Checkpoints to load.', None),
    'train': Option(Settings, 'Losses, optimizer and schedule of a training.', None),
    'val': Option(Settings, 'Validation and metrics.', None),
    'logger': Option(Settings, 'Logs and checkpoints of a training.', None),
    'dist_params': Option(Settings, 'Communication between processes.', None),
}

DIST_PARAMS: Table = {
    'backend': Option(
        Literal['nccl', 'gloo', 'mpi'], 'Backend of torch.distributed; gloo where there is no GPU.', 'nccl'
    ),
    'port': Option(Annotated[int, Range(1, 65535)], 'Port of the first process under SLURM.', None),
}

PATH: Table = {
    'resume_state': Option(str, 'Training state to resume from.', None),
    'ignore_resume_networks': Option(list[str], 'Networks whose weights are not loaded when resuming.', None),
}

PATH_OF_NETWORK: Table = {
    'pretrain_network_{}': Option(str, 'Initial weights of network_{}.', None),
    'strict_load_{}': Option(bool, 'Whether the names and shapes of all weights must match.', True),
    'param_key_{}': Option(
        str,
        'Set of weights to load: params, or their moving average params_ema. By default, the average if there is one.',
        None,
    ),
}

LOGGER: Table = {
    'print_freq': Option(Interval, 'Iterations between two log lines.'),
    'save_checkpoint_freq': Option(Interval, 'Iterations between two checkpoints.'),
    'keep_checkpoints': Option(Natural, 'Number of numbered checkpoints to keep; all if absent or 0.', None),
    'use_tb_logger': Option(bool, 'Whether to log to TensorBoard.'),
    'wandb': Option(Settings, 'Weights & Biases.', None),
}

WANDB: Table = {
    'project': Option(str, 'Project to log to; none if absent.', None),
    'resume_id': Option(str, 'Run to continue.', None),
}

TRAIN: Table = {
    'total_iter': Option(Count, 'Number of iterations.'),
    'warmup_iter': Option(
        Annotated[int, Range(-1)],
        'Number of warm-up iterations, in which the learning rate rises linearly; -1 for none.',
        -1,
    ),
    'stages': Option(
        list[Settings],
        'Sections with iterations, gt_size and batch_size_per_gpu. The last one ends at total_iter.',
        None,
    ),
    'accumulation': Option(Count, 'Number of batches per optimizer step; computed from recipe_gpus if absent.', None),
    'recipe_gpus': Option(
        Count, 'Number of GPUs that the batch size assumes. With fewer, gradients are accumulated.', None
    ),
}

STAGE: Table = {
    'iterations': Option(Count, 'Number of iterations; absent in the last stage.', None),
    'gt_size': Option(
        Crop, 'Size of crops in pixels, one number or [height, width]; that of datasets.train if absent.', None
    ),
    'batch_size_per_gpu': Option(Count, 'Batch size per GPU; that of datasets.train if absent.', None),
}

VAL: Table = {
    'val_freq': Option(Interval, 'Iterations between two validations. Required for training.', None),
    'save_img': Option(bool, 'Whether to save restored images.'),
}

METRIC_INPUTS = ('img', 'img2', 'blurry', 'kernel', 'trajectory')
"""Arguments of metrics that are not options: the images and what is known about them."""
BETTER = Option(Literal['higher', 'lower'], 'Which values of the metric are better.', 'higher')

# options of every phase in `datasets`, in addition to those of the dataset class
LOADER: Table = {
    'name': Option(Name, 'Name of the dataset in logs and results.'),
    'type': Option(str, 'A registered dataset class.'),
    'phase': Option(str, 'Set by BasicSR.', None),
    'num_worker_per_gpu': Option(
        Annotated[int, Range(0, 256)], 'Number of data loading processes per GPU. Required for training.', None
    ),
    'batch_size_per_gpu': Option(Count, 'Batch size per GPU. Required for training unless all stages set it.', None),
    'dataset_enlarge_ratio': Option(
        Annotated[int, Range(1, 100_000)], 'Number of times that an epoch repeats the dataset.', 1
    ),
    'prefetch_mode': Option(Literal['cpu', 'cuda'], 'How batches are prefetched.', None),
    'num_prefetch_queue': Option(Count, 'Length of the queue of prefetch_mode cpu, in batches.', 1),
    'pin_memory': Option(bool, 'Whether to use pinned memory; only with a GPU if absent.', None),
    'persistent_workers': Option(
        bool, 'Whether to keep data loading processes between epochs; only in training if absent.', None
    ),
    'use_shuffle': Option(bool, 'No effect. Option files of older versions of BasicSR contain it.', None),
}

# additional options of the phase train
LOADER_TRAIN: Table = {
    'gt_size': Option(Crop, 'Size of crops in pixels, one number or [height, width].', None),
    'max_damaged': Option(
        Natural, 'Maximum number of unreadable images to skip; 0 if absent. If there are more, the run ends.', None
    ),
}

PART: Table = {
    'name': Option(str, 'Name of the part.', None),
    'type': Option(str, 'A registered dataset class.'),
    'weight': Option(Positive, 'Share of the samples, relative to the other parts.', 1),
}

Roots = str | list[str]
_CROPS: Table = {
    'gt_size': LOADER_TRAIN['gt_size'],
    'use_flip': Option(bool, 'Whether to flip crops at random.', True),
    'use_rot': Option(bool, 'Whether to rotate crops by random multiples of 90 degrees.', True),
}

DATASETS: dict[str, Table] = {
    'PairedDeblurDataset': {
        'dataroot': Option(
            str, 'Folder of a dataset with a known layout, such as GoPro, as downloaded and unpacked.', None
        ),
        'split': Option(str, 'Split of dataroot, such as train; that of the phase if absent.', None),
        'dataroot_lq': Option(str, 'Blurry images: folder, pattern with *, or LMDB.', None),
        'dataroot_gt': Option(str, 'Sharp images: folder, pattern with *, or LMDB. May be absent for a test.', None),
        'meta_info_file': Option(str, 'List of the pairs.', None),
        **_CROPS,
    },
    'SyntheticBlurDataset': {
        'dataroot_gt': Option(
            str, 'Folder, pattern or LMDB with sharp images; the photographs of scikit-image if absent.', None
        ),
        'samples_per_image': Option(
            Count, 'Number of samples per image; 100 for training and 1 otherwise if absent.', None
        ),
        'seed': Option(Natural, 'Seed of all random choices.', 0),
        'blurs': Option(
            list[Settings], 'Types of blur, each with type, arguments and weight.', [{'type': 'CameraShake'}]
        ),
        'saturation': Option(
            tuple[Annotated[float, Range(1)], Annotated[float, Range(1)]],
            'Minimum and maximum intensity before blurring of pixels that are white in the sharp image.',
            [1, 1],
        ),
        'shot_noise': Option(
            tuple[Fraction, Fraction], 'Minimum and maximum variance of photon noise at full intensity.', [1e-4, 1e-4]
        ),
        'read_noise': Option(
            tuple[Fraction, Fraction], 'Minimum and maximum standard deviation of read noise.', [5e-4, 5e-4]
        ),
        'jpeg_quality': Option(
            tuple[Annotated[float, Range(1, 100)], Annotated[float, Range(1, 100)]],
            'Minimum and maximum JPEG quality of blurry images; no compression if absent.',
            None,
        ),
        'jpeg_share': Option(Fraction, 'Fraction of the samples to compress.', 1),
        **_CROPS,
    },
    'MixedDataset': {
        'parts': Option(list[Settings], 'Datasets, each with type, options and weight.'),
        'gt_size': LOADER_TRAIN['gt_size'],
    },
}

# By model class: options at the root ('root') and in the sections train and val. A class inherits those of its parents.
MODELS: dict[str, dict[str, Table]] = {
    'DeepRFTv2Model': {
        'train': {
            'frequency_opt': Option(Settings, 'A second loss. Both are applied to all outputs at both scales.', None),
            'clip_grad_norm': Option(NotNegative, 'Maximum norm of the gradients; not clipped if absent or 0.', None),
            'bf16': Option(bool, 'Whether to run the network in bfloat16 where autocast allows it.', None),
            'channels_last': Option(bool, 'Whether to use the channels_last memory format.', None),
            'compile': Option(bool, 'Whether to compile the network with torch.compile.', None),
        },
    },
    'RestorationModel': {
        'val': {
            'tile': Option(
                Count | tuple[Count, Count],
                'Size of tiles in pixels, one number or [height, width]; whole images if absent.',
                None,
            ),
            'overlap': Option(
                Natural | tuple[Natural, Natural], 'Overlap of tiles in pixels, one number or [height, width].', None
            ),
            'pad': Option(
                tuple[Natural, Natural], 'Minimum [height, width]; smaller images are padded with zeros.', None
            ),
            'ensemble': Option(bool, 'Whether to average the results over the eight flips and rotations.', None),
        },
    },
    'SRModel': {
        'root': {'network_g': Option(Settings, 'The network: type and its arguments.')},
        'train': {
            'optim_g': Option(Settings, 'The optimizer: type and its arguments.'),
            'pixel_opt': Option(Settings, 'A loss: type and its arguments.', None),
            'perceptual_opt': Option(Settings, 'A perceptual loss: type and its arguments.', None),
            'ema_decay': Option(BelowOne, 'Decay of the moving average of the weights; 0 for no average.', 0),
        },
        'val': {
            'metrics': Option(
                dict[str, Settings],
                'Metrics by name: type, arguments and better (higher or lower), which only metrics of other packages '
                'need.',
                None,
            ),
            'pbar': Option(bool, 'Whether to show a progress bar.', None),
            'suffix': Option(Name, 'Suffix of saved images; the name of the run if absent.', None),
        },
    },
    'BaseModel': {
        'train': {'scheduler': Option(Settings, 'The learning rate schedule; a constant rate if absent.', None)},
    },
}

LARGEST_RATE = 1000
"""Maximum learning rate."""
_Rate = Annotated[float, Range(0, LARGEST_RATE)]
_Rates = _Rate | list[_Rate]
_Epsilon = Annotated[float, Range(1e-30, 1)]  # smaller numbers can be zero in float32
_Weight = Annotated[float, Range(0, 1e6)]

# Arguments with narrower types than their annotations, by the role of the class. They apply to the classes of PyTorch,
# BasicSR and this package.
BOUNDS: dict[str, dict[str, Any]] = {
    'optimizer': {
        'lr': _Rate,
        'betas': tuple[BelowOne, BelowOne],
        'beta2_decay': float,
        'eps': _Epsilon | tuple[_Epsilon | None, _Epsilon],
        'weight_decay': Annotated[float, Range(0, 100)],
        'momentum': BelowOne,
        'dampening': Fraction,
        'rho': Fraction,
        'alpha': Fraction,
        'lr_decay': NotNegative,
        'initial_accumulator_value': NotNegative,
        'maximize': Literal[False],
        'max_iter': Annotated[int, Range(1, 1000)],
        'max_eval': Annotated[int, Range(1, 1000)],
        'history_size': Annotated[int, Range(1, 1000)],
        'tolerance_grad': NotNegative,
        'tolerance_change': NotNegative,
        'ns_steps': Annotated[int, Range(1, 100)],
    },
    'schedule': {
        'T_max': Count,
        'T_0': Count,
        'T_mult': Count,
        'step_size': Count,
        'step_size_up': Count,
        'step_size_down': Count,
        'total_iters': Count,
        'total_steps': Count,
        'epochs': Count,
        'steps_per_epoch': Count,
        'patience': Natural,
        'cooldown': Natural,
        'milestones': list[Natural],
        'periods': list[Count],
        'restarts': list[Natural],
        'restart_weights': list[NotNegative],
        'schedulers': list[Settings],
        'gamma': NotNegative,
        'power': NotNegative,
        'factor': NotNegative,
        'start_factor': NotNegative,
        'end_factor': NotNegative,
        'pct_start': Fraction,
        'div_factor': Positive,
        'final_div_factor': Positive,
        'threshold': NotNegative,
        'eps': NotNegative,
        'eta_min': _Rate,
        'min_lr': _Rates,
        'max_lr': _Rates,
        'base_lr': _Rates,
        'base_momentum': BelowOne | list[BelowOne],
        'max_momentum': BelowOne | list[BelowOne],
        'last_epoch': Literal[-1],
    },
    'loss': {
        'loss_weight': _Weight,
        'perceptual_weight': _Weight,
        'style_weight': _Weight,
        'layer_weights': dict[str, _Weight],
        'losses': list[Settings],
        'scale_weights': tuple[_Weight, _Weight],
        'reduction': Literal['mean', 'sum'],
        'eps': _Epsilon,
        'alpha': NotNegative,
        'patch_factor': Count,
    },
    'metric': {
        'crop_border': Natural,
        'input_order': Literal['HWC'],
        'test_y_channel': bool,
        'border': Natural,
        'reach': Natural,
        'of': Literal['result', 'blurry', 'wiener', 'sparse'],
    },
    'network': {
        'in_channels': Count,
        'out_channels': Count,
        'stages': Annotated[int, Range(1, 100)],
        'kernel_width': Crop,
        'channels': Count,
        'backbone': Settings,
    },
}

LARGEST_ARGUMENT = 10_000
"""Largest number in the arguments of a network, such as a number of channels, blocks or pixels."""
