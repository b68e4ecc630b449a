"""The golden folder itself: that there is something to compare, and that nothing is left out."""

import golden_files


def test_golden_folder_holds_files():
    folder = golden_files.FOLDER
    assert folder.is_dir(), (
        f"{folder} (from {golden_files.ENV_VAR}, else tests/golden) is not a folder"
    )
    assert golden_files.all_files(), f"{folder} holds no .npz file: nothing would be compared"


def test_every_golden_file_is_of_a_kind_that_is_compared():
    unknown = [path.name for path, kind in golden_files.all_files().items() if kind is None]
    assert not unknown, f"no test reads {unknown}"


def test_every_golden_file_has_a_case():
    suffixes = {
        "gae": "adv_norm",
        "reward_norm": "ret_carry",
        "policy_phase": "kind",
        "aux_phase": "mb_envseg",
        "init_norms": "param_numel",
    }
    for path, kind in golden_files.all_files().items():
        if kind in suffixes:
            assert golden_files.load(path).prefixes(suffixes[kind]), f"{path.name} has no case"


def test_own_folder_has_every_kind_and_architecture():
    own = {path: golden_files.kind_of(path) for path in golden_files.OWN_FOLDER.glob("*.npz")}
    assert set(own.values()) == set(golden_files.KINDS)
    for kind in ("model", "policy_phase", "aux_phase", "cycle"):
        found = {str(golden_files.load(p)["cfg/arch"]) for p, k in own.items() if k == kind}
        assert found == {"dual", "detach", "shared"}, kind
