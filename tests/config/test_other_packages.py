"""Options of the classes of other packages."""

import pytest
from torch import nn

from deeprftv2_plugin.utils.errors import UserError
from tests.config.checking import check


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
