import re
import subprocess
import sys

import pytest

from rllib_ppg.envs.procgen_library import game_names, games_of_mode, import_procgen, mode_names


def test_names_are_those_of_the_installed_library():
    library = import_procgen()
    assert game_names() == tuple(library.ENV_NAMES)
    assert mode_names() == tuple(library.DISTRIBUTION_MODE_DICT)
    assert {"coinrun", "starpilot"} < set(game_names())


def test_a_game_that_only_this_build_has_is_offered(monkeypatch):
    monkeypatch.setattr(import_procgen(), "ENV_NAMES", ["coinrun", "hovercraft"])
    assert game_names() == ("coinrun", "hovercraft")
    assert games_of_mode("hard") == ("coinrun", "hovercraft")
    assert games_of_mode("memory") == ()


@pytest.mark.parametrize(("mode", "refused"), [("extreme", "heist"), ("memory", "leaper")])
def test_games_of_a_mode_are_those_in_the_librarys_own_refusal(mode, refused):
    """The library ends its process on a mode that the game lacks, and prints those that have it."""
    code = (
        "import sys; from rllib_ppg.envs.procgen_library import import_procgen as lib\n"
        "lib().ProcgenGym3Env(num=1, env_name=sys.argv[1], distribution_mode=sys.argv[2])"
    )
    command = [sys.executable, "-c", code, refused, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert set(re.findall(r'name == "(\w+)"', done.stdout)) == set(games_of_mode(mode))


def test_only_the_notice_of_gym_is_held_back(tmp_path):
    (tmp_path / "gym").mkdir()
    (tmp_path / "gym" / "__init__.py").write_text(
        "import sys\n__version__ = '9'\n"
        "print('Move to gymnasium.', file=sys.stderr)\nprint('Disk is full.', file=sys.stderr)\n"
    )
    (tmp_path / "gym_notices").mkdir()
    (tmp_path / "gym_notices" / "__init__.py").touch()
    (tmp_path / "gym_notices" / "notices.py").write_text("notices = {'9': 'Move to gymnasium.'}\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from rllib_ppg.envs.procgen_library import _import_gym_quietly\n"
        "_import_gym_quietly(); import gym; assert gym.__version__ == '9'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split("\n") == ["Disk is full.", ""]


def test_missing_library_is_one_message_with_what_to_do():
    code = (
        "import sys; sys.modules['procgen'] = None\n"
        "from rllib_ppg.envs.procgen_options import parse_options\n"
        "from rllib_ppg.errors import UserError\n"
        "try:\n    parse_options({'env_name': 'coinrun'})\n"
        "except UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install procgen" in done.stdout
