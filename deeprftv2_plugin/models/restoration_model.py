"""The part of the model class that restores pictures and scores them."""

import cv2
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite
from torch.nn import functional as F

from deeprftv2_plugin.evaluation import validation
from deeprftv2_plugin.evaluation.metrics_log import Journal
from deeprftv2_plugin.evaluation.report import Report
from deeprftv2_plugin.inference.restoration import check_tiles, restore
from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.training import signals as interruption
from deeprftv2_plugin.utils.errors import UserError


class RestorationModel(SRModel):
    """Restores pictures with any network, and scores them by all processes together.

    Beyond the options of BasicSR's ``SRModel``:

    - ``val.tile``, ``val.overlap`` and ``val.ensemble`` are those of
      :func:`deeprftv2_plugin.inference.restore`; ``val.pad`` is the least height and width to which a picture
      is padded with zeros before, at the bottom and on the right.

    Every process restores its share of the pictures, each picture is counted once, and the numbers do not depend on
    how many processes there are. In a training they go to the log, to TensorBoard, and to ``metrics.jsonl``; the
    weights with the best of the first metric on the first data set are kept as ``net_g_best``. Of a test there are
    reports, see :class:`deeprftv2_plugin.evaluation.report.Report`.

    Networks that enlarge (``scale`` other than 1) are validated as they are: without tiles, ensemble and padding.

    Raises:
        UserError: The options ask for what is not there; the message names them.
    """

    def __init__(self, opt):
        val_opt = opt.get('val') or {}
        if opt.get('scale', 1) != 1 and (val_opt.get('tile') or val_opt.get('ensemble') or val_opt.get('pad')):
            raise UserError(
                f'val: found tile, ensemble or pad with scale {opt["scale"]}, but they are for networks that keep '
                'the size of a picture; leave them out or set scale: 1.'
            )
        super().__init__(opt)
        get_root_logger().info(f'Backends in the order of preference: {backends.describe()}.')
        check_tiles(self.get_bare_model(self.net_g), **self.tiles())
        self.validated = {}
        self.best_metric_results = {}

    @property
    def processes(self) -> int:
        """How many processes share the work."""
        return self.opt['world_size'] if self.opt['dist'] else 1

    def test(self):
        if self.opt.get('scale', 1) != 1:
            super().test()
            return
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        self.output = self.restore(net, self.lq)

    def restore(self, net, x):
        """Pictures (N, C, H, W) through a network by the padding, tiles, overlap and ensemble of the options."""
        val_opt = self.opt.get('val') or {}
        height, width = x.shape[-2:]
        least_height, least_width = val_opt.get('pad') or (0, 0)
        x = F.pad(x, (0, max(0, least_width - width), 0, max(0, least_height - height)))
        return restore(net, x, ensemble=val_opt.get('ensemble') or False, **self.tiles())[..., :height, :width]

    def tiles(self):
        """The tile and the overlap of the options; what is absent there keeps the default of ``restore``."""
        val_opt = self.opt.get('val') or {}
        return {key: val_opt[key] for key in ('tile', 'overlap') if val_opt.get(key) is not None}

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        """Restore a data set, save the pictures where wanted, and score them.

        Pictures without ground truth are restored, and not compared. A test saves them in any case. In a training, a
        data set is validated once an iteration: BasicSR does it once more at the end.

        Args:
            dataloader: BasicSR's, of the whole data set.
            current_iter: The iteration; in a test, the name of the run.
            tb_logger: TensorBoard's writer, or None.
            save_img: Whether the restored pictures are saved.

        Raises:
            UserError: A picture cannot be read, restored, scored or, in a test, saved; the message names it.
        """
        name = dataloader.dataset.opt['name']
        if self.is_train and self.validated.get(name) == current_iter:
            return
        metrics = (self.opt.get('val') or {}).get('metrics') or {}
        report = None if self.is_train else Report(self.opt, name)
        share = self.score_share(dataloader, current_iter, tb_logger, save_img, report)
        found = validation.joined(share, self.processes)
        self.metric_results = validation.means(found)
        left_out = [metric for metric in metrics if metric not in self.metric_results]
        if left_out:
            get_root_logger().info(f'{name} has no ground truth, so no {", ".join(left_out)}.')
        if self.metric_results:
            self.note_results(name, current_iter, tb_logger)
        if report:
            report.write(found)
        self.validated[name] = current_iter

    def score_share(self, dataloader, current_iter, tb_logger, save_img, report):
        """What is found out about the pictures that fall to this process, by their index in the data set."""
        dataset, val_opt, rank = dataloader.dataset, self.opt.get('val') or {}, self.opt['rank']
        share = len(range(rank, len(dataset), self.processes))
        progress = validation.Progress(dataset.opt['name'], share, rank == 0, val_opt.get('pbar', True))
        found = {}
        for index, sample in validation.own_share(dataloader, rank, self.processes):
            if self.is_train and rank == 0 and interruption.requested():
                self.leave(current_iter)
            name, depth = validation.picture_name(dataset, sample['lq_path'][0]), int(sample.get('depth', 8))
            with validation.naming(f'{name} of {dataset.opt["name"]}'):
                pictures, scores = self.restore_and_score(sample, depth)
            if save_img or (report and len(pictures) == 2):
                path = validation.result_path(self.opt, dataset.opt['name'], name, current_iter)
                self.save_picture(pictures[1], path)
            if tb_logger and len(found) < validation.SHOWN:
                tag = f'{dataset.opt["name"]}/{name}'
                tb_logger.add_image(tag, validation.side_by_side(pictures), current_iter, dataformats='HWC')
            found[index] = validation.Scored(name, depth, scores)
            if report:
                report.consider(index, found[index], pictures)
            progress.advance()
        progress.close()
        return found

    def restore_and_score(self, sample, depth):
        """The blurry, the restored and, where it is known, the sharp picture of a sample, and the metrics."""
        self.feed_data(sample)
        self.test()
        sharp = [self.gt] if hasattr(self, 'gt') else []
        pictures = validation.to_pictures(self.lq, self.output, *sharp, depth=depth)
        metrics = (self.opt.get('val') or {}).get('metrics') or {}
        return pictures, validation.score(pictures[1], pictures[2] if sharp else None, metrics)

    def save_picture(self, picture, path):
        """Save a restored picture; a training goes on where that fails.

        Raises:
            UserError: In a test.
        """
        try:
            imwrite(picture, path)
        except (OSError, cv2.error) as error:
            text = f'the restored picture {path} could not be written: {error}'
            if not self.is_train:
                raise UserError(f'{text}. Make room, or see to the rights of its folder') from error
            get_root_logger().error(text)

    def note_results(self, dataset_name, current_iter, tb_logger):
        """Log the metrics, and keep the weights where they are the best so far."""
        first = next(iter(self.metric_results))
        former = self.best_metric_results.get(dataset_name, {}).get(first, {}).get('iter')
        self.recall_results(dataset_name, current_iter, self.metric_results)
        best = self.best_metric_results[dataset_name]
        if self.opt['rank'] != 0:
            return
        self._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        if self.is_train:
            leading = next(iter(self.best_metric_results)) == dataset_name
            if leading and best[first]['iter'] != former:
                self.save_best(current_iter)
            Journal(self.opt['path']['log']).append(current_iter, dataset=dataset_name, **self.metric_results)

    def recall_results(self, dataset_name, current_iter, results):
        """Take the metrics of a validation, perhaps of an earlier run, into the best ones."""
        self._initialize_best_metric_results(dataset_name)
        for metric in self.best_metric_results[dataset_name]:
            if results.get(metric) is not None:
                self._update_best_metric_result(dataset_name, metric, results[metric], current_iter)

    def save_best(self, current_iter):
        """Keep the weights as ``net_g_best``."""
        nets, names = [self.net_g], ['params']
        if hasattr(self, 'net_g_ema'):
            nets, names = [*nets, self.net_g_ema], [*names, 'params_ema']
        try:
            self.save_network(nets, 'net_g', 'best', param_key=names)
        except OSError as error:
            get_root_logger().error(f'The best weights, of iteration {current_iter}, could not be written: {error}.')
