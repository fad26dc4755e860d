from deeprftv2_plugin.training.branches import set_aside


def write(experiment, *iterations):
    for name in ('training_states', 'models'):
        (experiment / name).mkdir(parents=True, exist_ok=True)
    for iteration in iterations:
        (experiment / f'training_states/{iteration}.state').touch()
        for suffix in ('pth', 'safetensors'):
            (experiment / f'models/net_g_{iteration}.{suffix}').touch()


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


def test_states_and_weights_after_the_iteration_are_moved(tmp_path):
    write(tmp_path / 'expected', 6, 8)
    write(tmp_path / 'kept', 2, 4)
    write(tmp_path / 'small', 2, 4, 6, 8)
    for folder in ('expected', 'small'):
        for word in ('latest', 'best'):
            (tmp_path / folder / f'models/net_g_{word}.pth').touch()
    branch = set_aside(tmp_path / 'small', 4)
    assert branch == tmp_path / 'small/branch_4_to_8'
    assert names(branch) == names(tmp_path / 'expected')
    assert {name for name in names(tmp_path / 'small') if not name.startswith('branch')} == names(tmp_path / 'kept')


def test_each_branch_has_its_own_folder(tmp_path):
    branches = []
    for _ in range(2):
        write(tmp_path, 2, 4)
        branches.append(set_aside(tmp_path, 2).name)
    assert branches == ['branch_2_to_4', 'branch_2_to_4_2']


def test_nothing_is_moved_if_no_state_is_newer(tmp_path):
    """A run that is killed while it saves leaves weights without a state."""
    write(tmp_path, 2, 4)
    (tmp_path / 'models/net_g_6.pth').touch()
    before = names(tmp_path)
    assert set_aside(tmp_path, 4) is None
    assert names(tmp_path) == before
