"""`basicsr export` on the command line: arguments that are refused before an export."""

import pytest
import torch

from deeprftv2_plugin import cli
from deeprftv2_plugin.checkpoints import shipped_weights, write_checkpoint
from deeprftv2_plugin.inference import export


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Replace the exporter, and return the arguments of its calls."""
    found = []
    monkeypatch.setattr(export, 'export_network', lambda *args: found.append(args) or ['done'])
    return found


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('-o net.pth', '-o net.pth: expected a file name that ends in .onnx or .pt2'),
        ('-o net.pt2 --size 64', '--size is 64, expected height and width in pixels, such as 720x1280'),
        ('-o net.pt2 --size 0x64', 'the size is 0x64 pixels (height x width), expected at least 16x16'),
        ('-o net.pt2 --size -8x64', '--size is -8x64'),
        ('-o net.pt2 --size 64x8', 'expected at least 16x16'),
        ('-o there.pt2', 'there.pt2 exists: use --overwrite to replace it'),
        ('-o folder.pt2 --overwrite', '-o folder.pt2 is a folder: use the name of a file'),
        ('-o there.pt2/net.pt2', 'cannot write to the folder there.pt2'),
        ('-o net.pt2 --weights other.pth', 'other.pth: not the weights of a DeepRFTv2'),
        ('-o net.pt2 --weights missing.pth', 'missing.pth: checkpoint not found'),
    ],
)
def test_wrong_arguments_are_errors(folder, calls, capsys, arguments, message):
    (folder / 'there.pt2').write_bytes(b'precious')
    (folder / 'folder.pt2').mkdir()
    write_checkpoint({'params': torch.nn.Linear(3, 3).state_dict()}, folder / 'other.pth')
    arguments = [each.replace('-8x64', '=-8x64') for each in arguments.split()]
    arguments = ' '.join(arguments).replace('--size =', '--size=').split()
    assert cli.main(['export', *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not calls and (folder / 'there.pt2').read_bytes() == b'precious'


def test_the_shipped_weights_are_the_default(folder, calls, capsys):
    (folder / 'there.pt2').write_bytes(b'old')
    assert cli.main(['export', '-o', 'there.pt2', '--overwrite', '--size', '32x48']) == 0
    ((net, target, size),) = calls
    assert (target.name, size) == ('there.pt2', (32, 48))
    from deeprftv2_plugin.checkpoints import load_network

    expected = load_network(shipped_weights()).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    assert capsys.readouterr().out == 'done\n'


def test_missing_folders_are_created(folder, calls):
    assert cli.main(['export', '-o', 'new/folder/net.pt2']) == 0
    assert (folder / 'new/folder').is_dir()
