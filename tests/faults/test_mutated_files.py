"""Experiment files with faults: one clear message or a valid experiment, and nothing left behind.

The default run tries the same files each time; the slow tests try new ones. MUTATION_SEED=NUMBER,
which a failure names, repeats theirs.
"""

import os
import resource
import secrets
import subprocess
import sys
import unicodedata
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from file_mutations import LARGE, mutated_files
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from rllib_ppg.app import cluster
from rllib_ppg.app.dry_run import describe
from rllib_ppg.app.experiment_files import load_experiments
from rllib_ppg.app.flags import TrainFlags
from rllib_ppg.app.plan import make_plan
from rllib_ppg.app.train import check_flags
from rllib_ppg.errors import UserError

SEED = int(os.environ.get("MUTATION_SEED", secrets.randbelow(2**32)))

LONGEST_LINE = 3000
"""Characters of one problem; lists of what is allowed are the longest part of one."""

MEMORY = 500_000_000
"""Bytes that looking at files may take at its peak, beside the libraries."""

ANY_PACE = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test's own, which is the home and the current folder too."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def refusal(path: str) -> str | None:
    """Return why `rllib train -f PATH --dry-run` refuses a file, or None where it does not.

    These are the command's own steps up to the measurement of this machine's speed.
    """
    flags = TrainFlags(files=[path], dry_run=True)
    try:
        experiments = load_experiments(flags)
        check_flags(flags)
        ray = cluster.ray_settings(flags)
        for plan in [make_plan(experiment, ray, flags) for experiment in experiments]:
            lines = takewhile(lambda line: not line.startswith("Time on"), describe(plan, ray))
            "\n".join(lines).encode()  # can be shown
    except UserError as error:
        return str(error)
    return None


def assert_clear(message: str, path: str) -> None:
    """A message is lines for a person, each of which begins with the file that it is about."""
    lines = message.split("\n")
    assert len(set(lines)) == len(lines)
    for line in lines:
        assert line.startswith((f"{path}:", f"{path} ")), line
        assert len(line) <= LONGEST_LINE
        assert "Traceback" not in line
        assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}, repr(line)


def check_file(content: bytes) -> str | None:
    """Look at one file in this process, and that nothing but looking happens; return why not."""
    Path("e.yaml").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = psutil.Process().children()  # a Ray that other tests use
    problem = refusal("e.yaml")
    if problem is not None:
        assert_clear(problem, "e.yaml")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < MEMORY
    assert os.listdir() == ["e.yaml"] and Path("e.yaml").read_bytes() == content
    assert psutil.Process().children() == children
    return problem


@settings(ANY_PACE, max_examples=60, derandomize=True, phases=[Phase.generate])
@given(mutated_files())
def test_a_file_is_valid_or_refused_with_a_clear_message(content: bytes):
    check_file(content)


@pytest.mark.parametrize("name", LARGE)
def test_a_text_that_is_too_much_is_refused(name: str):
    assert check_file(LARGE[name]) is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
@seed(SEED)
@settings(ANY_PACE, max_examples=500)
@given(mutated_files())
def test_each_of_500_files_is_valid_or_refused_with_a_clear_message(content: bytes):
    note(f"MUTATION_SEED={SEED} repeats this")
    check_file(content)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run_command(content: bytes, folder: Path) -> Ended:
    """Run `rllib train -f FILE --dry-run` in folders of its own and look at what it leaves."""
    token = secrets.token_hex(16)
    places = {name: folder / token / name.lower() for name in ("HOME", "TMPDIR", "WORK")}
    for place in places.values():
        place.mkdir(parents=True)
    (places["WORK"] / "e.yaml").write_bytes(content)
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    run = subprocess.run(
        [sys.executable, "-m", "rllib_ppg", "train", "-f", "e.yaml", "--dry-run"],
        cwd=places["WORK"],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2]), "RUN_TOKEN": token},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=240,
    )
    left = [str(path.relative_to(folder)) for path in (folder / token).rglob("*")]
    assert sorted(left) == sorted(
        f"{token}/{name}" for name in ("home", "tmpdir", "work", "work/e.yaml")
    )
    assert processes_with(token) == []
    return Ended(run.returncode, run.stdout, run.stderr)


def processes_with(token: str) -> list[psutil.Process]:
    """Return the processes that were started with a word in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RUN_TOKEN") == token:
                found.append(process)
        except psutil.Error:
            continue
    return found


def check_command(content: bytes, folder: Path) -> int:
    """Run the command on one file; it has to find what this process finds. Return its code."""
    expected = check_file(content)
    ended = run_command(content, folder)
    assert "Traceback" not in ended.err
    assert ended.code == (0 if expected is None else 2), ended.err
    if expected is None:
        assert ended.out.endswith("Nothing was started (--dry-run).\n")
    else:
        assert ended.err.startswith("Error: e.yaml") and ended.out == ""
    return ended.code


SIZES = "{num_envs: 8, rollout_fragment_length: 16, aux_mbsize: 8, n_pi: 2, num_env_runners: 0}"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(
            f"x: {{run: PPG, env: CartPole-v1, config: {SIZES}}}", 0, marks=pytest.mark.slow
        ),
        ("x: !!python/object/apply:os.abort []", 2),
    ],
    ids=["valid", "python"],
)
def test_the_command_agrees_and_leaves_nothing(
    content: str, code: int, tmp_path_factory: pytest.TempPathFactory
):
    assert check_command(content.encode(), tmp_path_factory.mktemp("command")) == code


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_command_agrees_and_leaves_nothing_with_each_of_50_files(
    tmp_path_factory: pytest.TempPathFactory,
):
    folder = tmp_path_factory.mktemp("command")

    @seed(SEED)
    @settings(ANY_PACE, max_examples=50, phases=[Phase.generate])  # each takes seconds
    @given(mutated_files())
    def check(content: bytes) -> None:
        note(f"MUTATION_SEED={SEED} repeats this")
        check_command(content, folder)

    check()
