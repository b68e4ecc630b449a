"""The Dockerfile, read by a linter and step by step; `make docker-check` runs its steps."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from rllib_ppg._version import __version__

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docker"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fresh = script("check_in_fresh_root")


class Dry(fresh.Build):
    """Carries out everything but commands, which it notes with their user."""

    def __init__(self, root: Path, **arguments: str) -> None:
        super().__init__(root, arguments)
        self.ran: list[tuple[str, str]] = []

    def run(self, command: list[str]) -> None:
        self.ran.append((self.user, command[-1]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dry:
    """Return the default image's files, with what would have been run."""
    build = Dry(tmp_path_factory.mktemp("root"))
    build.all(ROOT)
    return build


def steps() -> list[tuple[str, str]]:
    return list(fresh.instructions(ROOT))


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout == "", run.stdout + run.stderr


def test_every_requirement_is_pinned_to_a_version_that_setup_py_allows():
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {}
    for pin in pins:
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, pin
        versions[pin.name.lower()] = specifier.version
    assert len(versions) == len(pins)
    namespace: dict = {"__file__": str(ROOT / "setup.py")}
    source = (ROOT / "setup.py").read_text().partition("\nsetup(")[0]
    exec(compile(source, "setup.py", "exec"), namespace)
    extras = namespace["EXTRAS_REQUIRE"]
    needed = [*namespace["INSTALL_REQUIRES"], *extras["cluster"], *extras["video"]]
    for requirement in map(Requirement, needed):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11"}):
            version = versions[requirement.name.lower()]
            assert requirement.specifier.contains(version), requirement


def test_the_base_image_has_the_ray_and_python_of_the_requirements():
    base = dict(value.partition("=")[::2] for name, value in steps() if name == "ARG")["BASE"]
    ray = re.search(r"^ray==(.*)$", (FOLDER / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert base == f"rayproject/ray:{ray}-py311-${{DEVICE}}"


def test_only_what_the_image_is_made_of_is_sent(tmp_path: Path):
    sent = fresh.context(ROOT)
    assert sum((ROOT / path).stat().st_size for path in sent) < 2e6
    assert {path.split("/")[0] for path in sent} == {
        "Dockerfile", "LICENSE", "README.md", "docker", "experiments", "pyproject.toml",
        "rllib_ppg", "setup.py",
    }  # fmt: skip
    assert {path for path in sent if path.startswith("docker/")} == {
        "docker/health.py", "docker/requirements.txt",
    }  # fmt: skip
    assert not [path for path in sent if "__pycache__" in path or path.endswith(".pyc")]


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        (["*"], {"a", "b/c", "b/d.pyc", "b/e/f.pyc"}),
        (["*", "!b"], {"a"}),
        (["*", "!b", "**/*.pyc"], {"a", "b/d.pyc", "b/e/f.pyc"}),
        (["*.pyc"], set()),
        (["b/*.pyc"], {"b/d.pyc"}),
        (["**/e"], {"b/e/f.pyc"}),
        (["**/*.py[cod]", "!b/e/*"], {"b/d.pyc"}),
    ],
)
def test_patterns_leave_out_what_the_engine_would(patterns: list[str], left_out: set[str]):
    paths = ["a", "b/c", "b/d.pyc", "b/e/f.pyc"]
    assert {path for path in paths if fresh.ignored(path, patterns)} == left_out


def test_what_changes_often_comes_after_what_is_large():
    names = [value for name, value in steps() if name in ("COPY", "RUN")]
    heavy = next(i for i, value in enumerate(names) if "-r docker/requirements.txt" in value)
    sources = [i for i, value in enumerate(names) if re.match(r"(setup.py|rllib_ppg) ", value)]
    assert len(sources) == 2 and min(sources) > heavy


def test_root_installs_system_libraries_only_and_pip_keeps_no_cache(built: Dry):
    as_root = [command for user, command in built.ran if user != "1000"]
    assert len(as_root) == 1 and as_root[0].startswith("apt-get ") and built.user == "1000"
    installs = [command for _, command in built.ran if "pip install" in command]
    assert len(installs) == 3 and all("--no-cache-dir" in command for command in installs)


def test_root_can_be_asked_for(tmp_path: Path):
    build = Dry(tmp_path, RUN_AS="0")
    build.all(ROOT)
    assert build.user == "0"


def test_the_files_that_the_image_uses_are_in_it(built: Dry):
    assert built.words["ENTRYPOINT"] == ["rllib"] and built.words["CMD"] == ["--help"]
    health = built.words["HEALTHCHECK"]
    assert health[0] == "python" and (built.root / health[1].lstrip("/")).is_file()
    place = built.root / "opt/rllib_ppg"
    assert {path.name for path in (place / "experiments").iterdir()} == {
        path.name for path in (ROOT / "experiments").iterdir()
    }
    assert (built.root / "tmp/source/rllib_ppg/core/losses.py").is_file()
    assert (built.root / "tmp/source/setup.py").is_file()


def test_the_check_itself_is_of_an_experiment_in_the_image(built: Dry):
    assert (built.root / fresh.QUICK[2].lstrip("/")).is_file()
    json.loads(fresh.QUICK[fresh.QUICK.index("--stop") + 1])


def test_the_comments_name_this_version():
    tags = re.findall(r"rllib-ppg:([0-9.]+)-c", (ROOT / "Dockerfile").read_text())
    assert tags and set(tags) == {__version__}


def test_an_instruction_that_is_not_known_is_no_silent_success(tmp_path: Path):
    with pytest.raises(SystemExit, match="VOLUME"):
        Dry(tmp_path).step("VOLUME", "/x", ROOT)


def test_the_health_check_plays_and_learns():
    assert script("health").check().startswith(f"healthy: rllib_ppg {__version__}, ray ")
