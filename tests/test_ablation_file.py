"""The file of an ablation: which experiments are played, by which protocol, and what differs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ablation_files import ablation_file, flags, loaded
from challenge_files import challenge_file

from rllib_ppg.app.ablation_file import differences, load_ablation
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.checks import check
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.errors import UserError

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def test_each_experiment_is_a_challenge_in_a_folder_of_its_own(tmp_path: Path):
    found = loaded(tmp_path)
    assert found.name == "my-parts" and found.folder == tmp_path / "out" / "my-parts"
    assert [each.challenge.folder.name for each in found.variants] == [
        "whole", "whole-without-value_clip_param", "whole-without-aux_augmentation",
    ]  # fmt: skip
    assert {each.challenge.folder.parent for each in found.variants} == {found.folder}
    protocols = [each.challenge.protocol for each in found.variants]
    assert all(each == protocols[0] for each in protocols)
    assert found.notes[0].startswith("The same in all experiments, whatever their own: stop, ")


def test_what_is_not_said_is_that_of_the_first_experiment(tmp_path: Path):
    given: dict[str, Any] = {"games": None, "seeds": None, "budget_steps": None}
    protocol = loaded(tmp_path, **given).variants[0].challenge.protocol
    assert (protocol.track, protocol.games) == ("generalization", ["maze"])
    assert (protocol.seeds, protocol.steps, protocol.seconds) == ([1, 2, 3], 800, 7200)
    ablation_file(tmp_path, env_config={"env_name": "heist"})
    protocol = load_ablation(flags(tmp_path, **given)).variants[0].challenge.protocol
    assert (protocol.track, protocol.games) == ("sample_efficiency", ["heist"])


def test_a_scale_leaves_the_seconds(tmp_path: Path):
    found = loaded(tmp_path, budget_steps=None, budget_scale=0.001)
    protocol = found.variants[0].challenge.protocol
    assert protocol.budget_steps == 800 and protocol.steps == 0
    assert protocol.seconds == pytest.approx(7200)


def test_changes_name_keys_and_values(tmp_path: Path):
    changes = [each.changes for each in loaded(tmp_path).variants]
    assert changes == [(), ("value_clip_param: None",), ("aux_augmentation: None",)]


def test_differences_lead_into_mappings():
    first = {"a": 1, "b": {"c": 1, "d": [2]}, "e": 1, "g": True}
    other = {"a": 1, "b": {"c": 2, "d": [2]}, "f": "x", "g": 1}
    assert dict(differences(first, other)) == {
        "b.c": "b.c: 2", "e": "e left out", "g": "g: 1", "f": "f: 'x'",
    }  # fmt: skip


def test_only_some_experiments_are_played(tmp_path: Path):
    found = loaded(tmp_path, only="value_clip_param")
    assert [each.challenge.name for each in found.variants] == [
        "whole", "whole-without-value_clip_param",
    ]  # fmt: skip
    whole = loaded(tmp_path, only="without-value_clip_param")
    assert [each.changes for each in whole.variants] == [each.changes for each in found.variants]
    with pytest.raises(UserError, match=r'ends with "clip_param".*There are value_clip_param, aux'):
        loaded(tmp_path, only="clip_param")


@pytest.mark.parametrize("given", ["augmentation", "aux_agumentation", "without-aux_agumentation"])
def test_a_misspelt_experiment_gets_a_hint_that_can_be_given(tmp_path: Path, given: str):
    with pytest.raises(UserError, match=r'Did you mean "aux_augmentation"\?'):
        loaded(tmp_path, only=given)
    assert len(loaded(tmp_path, only="aux_augmentation").variants) == 2


def test_what_a_flag_makes_equal_is_left_out_with_a_line(tmp_path: Path):
    ablation_file(tmp_path)
    found = load_ablation(flags(tmp_path, settings=["value_clip_param=null"]))
    assert [each.challenge.name for each in found.variants] == [
        "whole", "whole-without-aux_augmentation",
    ]  # fmt: skip
    assert "whole-without-value_clip_param is left out: here it is the same" in found.notes[-1]
    with pytest.raises(UserError, match="no experiment differs from the first one, whole"):
        load_ablation(flags(tmp_path, settings=["value_clip_param=null", "aux_augmentation=null"]))


def test_files_of_other_kinds_are_refused(tmp_path: Path):
    one = tmp_path / "one.yaml"
    one.write_text(yaml.safe_dump({"x": {"run": "PPG", "env": "procgen"}}))
    with pytest.raises(UserError, match="holds one experiment, and an ablation compares several"):
        load_ablation(AblationFlags(file=str(one)))
    tiny = yaml.safe_load(challenge_file(tmp_path).read_text())["tiny"]
    two = tmp_path / "two.yaml"
    two.write_text(yaml.safe_dump({"a": tiny, "b": tiny}))
    with pytest.raises(UserError, match="holds a challenge, not experiments: rllib challenge"):
        load_ablation(AblationFlags(file=str(two)))


# ---- the files that come with it

# What `without` changes beside the key that it is named after.
ALSO = {
    ("generalization", "lr_schedule"): {"aux_lr_schedule", "value_lr_schedule"},
    ("generalization", "frame_stack"): {"frame_differences"},
    ("generalization", "widths"): {"hidden_size"},
    ("sample_efficiency", "reward_transform"): {"reward_clip"},
}


def names(track: str) -> list[str]:
    content = yaml.safe_load((EXPERIMENTS / f"ablation_{track}.yaml").read_text())
    return list(content)


@pytest.mark.parametrize("track", ["generalization", "sample_efficiency"])
def test_the_first_experiment_is_the_winner(track: str):
    ablation, winner = (
        load_experiments(TrainFlags(files=[str(EXPERIMENTS / f"{kind}_{track}.yaml")]))[0]
        for kind in ("ablation", "winner")
    )
    assert ablation.keys == winner.keys


@pytest.mark.parametrize("track", ["generalization", "sample_efficiency"])
def test_each_other_experiment_switches_off_the_part_that_it_is_named_after(track: str):
    file = str(EXPERIMENTS / f"ablation_{track}.yaml")
    first, *others = load_ablation(AblationFlags(file=file)).variants
    assert len(others) + 1 == len(names(track)) > 10
    for each in others:
        assert each.challenge.name.startswith(f"{first.challenge.name}-without-")
        part = each.challenge.name.rsplit("-", 1)[-1]
        keys = {change.split(":")[0].rsplit(".", 1)[-1] for change in each.changes}
        assert keys == {part} | ALSO.get((track, part), set())


@pytest.mark.parametrize("track", ["generalization", "sample_efficiency"])
def test_each_experiment_can_be_trained_as_it_stands(track: str):
    file = str(EXPERIMENTS / f"ablation_{track}.yaml")
    for experiment in load_experiments(TrainFlags(files=[file])):
        notes = [note for note in check(experiment).notes if "no effect" in note]
        assert bool(notes) == experiment.name.endswith("-n_aux_epochs"), notes
