"""The base class of `DeepRFTv2Model`, which restores images and computes metrics."""

from typing import Any, cast

import numpy as np
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from deeprftv2_plugin.data.storage.images import write_png
from deeprftv2_plugin.evaluation import validation
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog
from deeprftv2_plugin.evaluation.report import Report
from deeprftv2_plugin.evaluation.validation import ImageScore
from deeprftv2_plugin.inference.memory import is_out_of_memory, reason_of, restore_in_memory
from deeprftv2_plugin.inference.restoration import check_tiles
from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.training import signals
from deeprftv2_plugin.utils.atomic_io import advice, is_full
from deeprftv2_plugin.utils.errors import UserError, printable


class RestorationModel(SRModel):
    """Restore images with any network and compute metrics in all processes.

    Options in addition to those of BasicSR's ``SRModel``:

    - ``val.tile``, ``val.overlap`` and ``val.ensemble`` are the arguments of
      :func:`deeprftv2_plugin.inference.restore`.
    - ``val.pad`` is the minimum height and width. Smaller images are zero-padded at the bottom and on the right.

    Every process restores a share of the images. Each image counts once, and the results do not depend on the number of
    processes. During training, metrics go to the log, to TensorBoard and to ``metrics.jsonl``, and the weights with the
    best first metric on the first dataset are saved as ``net_g_best``. A test writes reports, see
    :class:`deeprftv2_plugin.evaluation.report.Report`.

    A test continues after an image that cannot be saved and, if the dataset has no ground truth, after one that cannot
    be read or restored. At the end, an error names all of these images.

    Super-resolution networks (``scale`` other than 1) are validated without tiles, ensemble and padding.

    Args:
        opt: BasicSR's options.

    Raises:
        UserError: The options are not supported.
    """

    def __init__(self, opt: dict[str, Any]):
        val_opt = opt.get('val') or {}
        if opt.get('scale', 1) != 1 and (val_opt.get('tile') or val_opt.get('ensemble') or val_opt.get('pad')):
            raise UserError(
                f'val: found tile, ensemble or pad with scale {opt["scale"]}, but they require a network that keeps '
                'the image size. Remove them or set scale: 1.'
            )
        self.leaving = False
        """Whether the training stops before the next step or validation."""
        self.loaded: str | None = None
        super().__init__(opt)
        if not self.is_train and self.loaded is None:
            get_root_logger().warning('path.pretrain_network_g is not set: network_g has random weights.')
        get_root_logger().info(f'Backends in order of preference: {backends.describe()}.')
        check_tiles(self.get_bare_model(self.net_g), **self.tiles())
        self.smaller_tile: tuple[int, int] | None = None
        self.validated: dict[str, int | str] = {}
        self.best_metric_results: dict[str, dict] = {}
        self.unscored: set[str] = set()
        """Datasets without metrics."""
        self.failures: list[str] = []

    @property
    def processes(self) -> int:
        """Number of processes."""
        return self.opt['world_size'] if self.opt['dist'] else 1

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = None) -> str:
        """Load weights, see `basicsr_bridge.patches.load_network`.

        ``self.loaded`` is set to the name of the set of weights of ``net_g``.
        """
        found = super().load_network(net, load_path, strict, param_key)
        if net is self.net_g:
            self.loaded = found
        return found

    def test(self) -> None:
        """Restore the current batch into ``self.output``, with the weight average if there is one."""
        if self.opt.get('scale', 1) != 1:
            self._test_without_tiles()
            return
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        self.output = self.restore(net, self.lq)

    def _test_without_tiles(self) -> None:
        try:
            super().test()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                '{}x{} pixels (height x width) do not fit into memory: {}. Free memory, or use smaller images'.format(
                    *self.lq.shape[-2:], reason_of(error)
                )
            ) from error

    def restore(self, net: nn.Module, x: Tensor) -> Tensor:
        """Restore images (N, C, H, W) with the padding, tiles, overlap and ensemble of the options.

        ``self.smaller_tile`` is set to the tile size if it is smaller than that of the options, for lack of memory.
        """
        val_opt = self.opt.get('val') or {}
        height, width = x.shape[-2:]
        min_height, min_width = val_opt.get('pad') or (0, 0)
        x = F.pad(x, (0, max(0, min_width - width), 0, max(0, min_height - height)))
        ensemble = val_opt.get('ensemble') or False
        output, self.smaller_tile = restore_in_memory(net, x, ensemble=ensemble, **self.tiles())
        return output[..., :height, :width]

    def tiles(self) -> dict[str, Any]:
        """Return ``tile`` and ``overlap`` as far as the options set them."""
        val_opt = self.opt.get('val') or {}
        return {key: val_opt[key] for key in ('tile', 'overlap') if val_opt.get(key) is not None}

    def validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        """Restore a dataset and compute its metrics.

        Images without ground truth are restored without full-reference metrics, and a test always saves them. During
        training, a dataset is validated only once per iteration, although BasicSR's loop repeats the last validation.

        Args:
            dataloader: Loader of the whole dataset.
            current_iter: The iteration, or the name of the run in a test.
            tb_logger: TensorBoard writer, or None.
            save_img: Whether to save the restored images.

        Raises:
            UserError: An image cannot be read, restored or scored, or the disk is full in a test. The message names the
                image. If a test of several datasets continued after errors, they are raised after the last dataset.
        """
        name = cast(Any, dataloader.dataset).opt['name']
        if self.is_train and self.validated.get(name) == current_iter:
            return
        if self.leaving:
            self.leave(current_iter)
        metrics = (self.opt.get('val') or {}).get('metrics') or {}
        report = None if self.is_train else Report(self.opt, name, self.loaded)
        with validation.fails_together(self.processes):
            share = self.score_share(dataloader, current_iter, tb_logger, save_img, report)
        scores = validation.gather_scores(share, self.processes)
        self.metric_results = validation.mean_metrics(scores)
        omitted = [metric for metric in metrics if metric not in self.metric_results]
        if omitted:
            get_root_logger().info(f'{name} has no ground truth. Omitted metrics: {", ".join(omitted)}.')
        if self.metric_results:
            self.log_results(name, current_iter, tb_logger)
        else:
            self.unscored.add(name)
        if report:
            report.write(scores)
            self.failures = validation.gather_lists(self.failures, self.processes)
            datasets = [settings['name'] for settings in (self.opt.get('datasets') or {}).values()]
            if self.failures and name == (datasets or [name])[-1]:
                raise UserError('\n'.join([f'{len(self.failures)} images were not restored or saved:', *self.failures]))
            self.failures = self.failures if self.opt['rank'] == 0 else []
        self.validated[name] = current_iter

    def score_share(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool, report: Report | None
    ) -> dict[int, ImageScore]:
        """Restore and score the images of this process.

        Args:
            dataloader: Loader of the whole dataset.
            current_iter: As in `validation`.
            tb_logger: As in `validation`.
            save_img: As in `validation`.
            report: Records the images of a test; None in training.

        Returns:
            The scores by index in the dataset.
        """
        dataset: Any = dataloader.dataset
        val_opt, rank = self.opt.get('val') or {}, self.opt['rank']
        share = len(range(rank, len(dataset), self.processes))
        progress = validation.ValidationProgress(dataset.opt['name'], share, rank == 0, val_opt.get('pbar', True))
        scores: dict[int, ImageScore] = {}
        tolerant = report is not None and not validation.has_ground_truth(dataset)
        for index, sample in validation.local_samples(dataloader, rank, self.processes, tolerant):
            if self.is_train and (signals.launcher_is_gone() or (rank == 0 and signals.requested())):
                self.leave(current_iter)
            if isinstance(sample, UserError):
                self.record_failure(sample)
                progress.advance()
                continue
            name, depth = validation.image_name(dataset, sample['lq_path'][0]), int(sample.get('depth', 8))
            try:
                with validation.error_context(f'{name} of {dataset.opt["name"]}'):
                    images, metrics = self.restore_and_score(sample, depth)
            except UserError as error:
                if not tolerant or 'gt' in sample:
                    raise
                self.record_failure(error)
                progress.advance()
                continue
            if save_img or (report and len(images) == 2):
                path = validation.result_path(self.opt, dataset.opt['name'], name, current_iter)
                self.save_image(images[1], path)
            if tb_logger and len(scores) < validation.LOGGED_IMAGES:
                tag = printable(f'{dataset.opt["name"]}/{name}')
                tb_logger.add_image(tag, validation.thumbnail(images), current_iter, dataformats='HWC')
            if self.smaller_tile:
                get_root_logger().warning(
                    '{} of {}: {}x{} pixels (height x width) are restored in tiles of {}x{}, since there is '
                    'not enough memory for larger ones. Set val.tile to restore all images in equal tiles.'.format(
                        name, dataset.opt['name'], *images[0].shape[:2], *self.smaller_tile
                    )
                )
            scores[index] = ImageScore(name, depth, metrics, self.smaller_tile)
            if report:
                report.consider(index, scores[index], images)
            progress.advance()
        progress.close()
        return scores

    def record_failure(self, error: UserError) -> None:
        """Log the error of an image, and keep it for the end of the test."""
        self.failures.append(str(error))
        get_root_logger().error(f'{error}. The test continues with the other images.')

    def restore_and_score(self, sample: dict[str, Any], depth: int) -> tuple[list[np.ndarray], dict[str, float]]:
        """Restore a sample.

        Args:
            sample: A sample of the dataset in a batch of one.
            depth: Bit depth, 8 or 16.

        Returns:
            The blurry, the restored and, if available, the sharp image, (H, W, 3), BGR; and the metrics.
        """
        self.feed_data(sample)
        self.test()
        if not self.output.isfinite().all():
            text = f'{sample["lq_path"][0]}: the restored image has values that are not finite.'
            get_root_logger().warning(printable(text))
        sharp = [self.gt] if hasattr(self, 'gt') else []
        images = validation.to_images(self.lq, self.output, *sharp, depth=depth)
        metrics = (self.opt.get('val') or {}).get('metrics') or {}
        known = {'blurry': images[0], **validation.known_of(sample)}
        return images, validation.compute_metrics(images[1], images[2] if sharp else None, metrics, **known)

    def save_image(self, image: np.ndarray, path: str) -> None:
        """Save a restored image. A failure is logged, and a test continues with the other images.

        Raises:
            UserError: The disk is full in a test.
        """
        try:
            write_png(path, image)
        except OSError as error:
            fault = UserError(
                f'the restored image {path} could not be written: {error.strerror or error}. {advice(error)}'
            )
            if self.is_train:
                get_root_logger().error(str(fault))
            elif is_full(error):
                raise fault from error
            else:
                self.record_failure(fault)

    def log_results(self, dataset_name: str, current_iter: Any, tb_logger: Any) -> None:
        """Log the metrics, and save the weights if they are the best so far."""
        first = next(iter(self.metric_results))
        self._initialize_best_metric_results(dataset_name)
        former = self.best_metric_results[dataset_name][first]['iter']
        self.recall_results(dataset_name, current_iter, self.metric_results)
        best = self.best_metric_results[dataset_name]
        if self.opt['rank'] != 0:
            return
        self._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        if self.is_train:
            if self.determines_best(dataset_name) and best[first]['iter'] != former:
                self.save_best(current_iter)
            MetricsLog(self.opt['path']['log']).append(current_iter, dataset=dataset_name, **self.metric_results)

    def determines_best(self, dataset_name: str) -> bool:
        """Return whether a dataset is the first one in the options that has metrics, even if its validation failed."""
        datasets = (self.opt.get('datasets') or {}).items()
        names = [settings['name'] for phase, settings in datasets if phase.startswith('val')]
        return dataset_name == next((name for name in names if name not in self.unscored), dataset_name)

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Add the metrics of the options. A resumed training keeps the records of those with the same direction."""
        former = self.best_metric_results.pop(dataset_name, {})
        if self.opt['val'].get('metrics'):
            super()._initialize_best_metric_results(dataset_name)
        records = self.best_metric_results.setdefault(dataset_name, {})
        for metric, new in records.items():
            old = former.get(metric, new)
            records[metric] = old if old.get('better') == new['better'] else new

    def recall_results(self, dataset_name: str, current_iter: int, results: dict[str, float]) -> None:
        """Update the best metrics with those of a validation, possibly of an earlier run."""
        self._initialize_best_metric_results(dataset_name)
        for metric in self.best_metric_results[dataset_name]:
            if results.get(metric) is not None:
                self._update_best_metric_result(dataset_name, metric, results[metric], current_iter)

    def save_best(self, current_iter: int) -> None:
        """Save the weights as ``net_g_best``. A failure is only logged."""
        nets, names = [self.net_g], ['params']
        if hasattr(self, 'net_g_ema'):
            nets, names = [*nets, self.net_g_ema], [*names, 'params_ema']
        try:
            self.save_network(nets, 'net_g', 'best', param_key=names)
        except OSError as error:
            get_root_logger().error(f'The best weights (iteration {current_iter}) could not be written: {error}.')
