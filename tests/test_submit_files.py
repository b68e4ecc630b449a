"""What is uploaded for a job: everything that it needs and nothing else."""

import zipfile
from pathlib import Path

import pytest

import rllib_ppg
from rllib_ppg.app.submit_files import make_upload
from rllib_ppg.app.submit_flags import COMMAND_VARIABLE, SubmitFlags
from rllib_ppg.errors import UserError

PACKAGE = Path(rllib_ppg.__file__).parent


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current folder."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the folder to gather an upload in."""
    place = tmp_path / "upload"
    place.mkdir()
    return place


def test_files_of_one_name_are_both_sent_and_named_in_the_command(here: Path, target: Path):
    for folder in ("a", "b"):
        (here / folder).mkdir()
        (here / folder / "x.yaml").write_text(folder)
    upload = make_upload(SubmitFlags(files=["a/x.yaml", "b/x.yaml"], train=["--seed", "1"]), target)
    sent = Path(upload.runtime_env["working_dir"])
    assert {path.name: path.read_text() for path in sent.iterdir()} == {
        "x.yaml": "a", "1_x.yaml": "b",
    }  # fmt: skip
    command = "python -m rllib_ppg train -f x.yaml -f 1_x.yaml --seed 1"
    assert upload.words == command.split()


def test_the_package_that_runs_here_is_sent_without_caches(here: Path, target: Path):
    (module,) = make_upload(SubmitFlags(), target).runtime_env["py_modules"]
    sent = {path.relative_to(module) for path in Path(module).rglob("*") if path.is_file()}
    sources = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert Path(module).name == "rllib_ppg" and sent == {*sources, Path("py.typed")}


def test_nothing_is_sent_where_the_nodes_have_the_package(here: Path, target: Path):
    upload = make_upload(SubmitFlags(package="cluster"), target)
    assert "py_modules" not in upload.runtime_env


def test_of_a_wheel_the_package_alone_is_sent(here: Path, target: Path):
    with zipfile.ZipFile(here / "w.whl", "w") as wheel:
        wheel.writestr("rllib_ppg/__init__.py", "other = 1")
        wheel.writestr("rllib_ppg-9.dist-info/METADATA", "Requires-Dist: torch")
    (module,) = make_upload(SubmitFlags(package="w.whl"), target).runtime_env["py_modules"]
    assert [path.name for path in Path(module).iterdir()] == ["__init__.py"]
    assert (Path(module) / "__init__.py").read_text() == "other = 1"


def test_modules_of_this_folder_are_sent_and_others_are_named(here: Path, target: Path):
    (here / "single.py").write_text("")
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text("")
    flags = SubmitFlags(imports=["./single.py", "package.envs", "elsewhere"])
    upload = make_upload(flags, target)
    sent = Path(upload.runtime_env["working_dir"])
    assert {path.name for path in sent.iterdir()} == {"single.py", "package"}
    assert upload.words[4:] == "--from single.py --from package.envs --from elsewhere".split()
    assert len(upload.notes) == 1 and "elsewhere" in upload.notes[0]


def test_the_users_environment_is_kept_and_completed(here: Path, target: Path):
    (here / "env.yaml").write_text("pip: [procgen-mirror]\nenv_vars: {A: 1}\npy_modules: [s3://x]")
    command = ["submit", "-f", "a b.yaml"]
    found = make_upload(SubmitFlags(runtime_env="env.yaml", command=command), target).runtime_env
    assert found["pip"] == ["procgen-mirror"] and found["py_modules"][1:] == ["s3://x"]
    assert found["env_vars"] == {
        "A": "1", "RAY_JOB_STOP_WAIT_TIME_S": "600", COMMAND_VARIABLE: "submit -f 'a b.yaml'",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "is a mapping"),
        ("working_dir: .", "--from"),
        ("env_vars: [A]", "env_vars is a mapping"),
        ("a: [", "broken YAML"),
    ],
)
def test_a_wrong_environment_is_refused(here: Path, target: Path, text: str, why: str):
    (here / "env.yaml").write_text(text)
    with pytest.raises(UserError, match=why):
        make_upload(SubmitFlags(runtime_env="env.yaml"), target)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"runtime_env": "no.yaml"}, "cannot be read"),
        ({"imports": ["no.py"]}, "no such file"),
        ({"package": "no.whl"}, "cannot be read"),
        ({"package": "text.whl"}, "not a wheel"),
        ({"package": "other.whl"}, "something else"),
        ({"package": "newest"}, "must be installed"),
    ],
)
def test_what_is_not_there_or_something_else_is_refused(
    here: Path, target: Path, given: dict, why: str
):
    (here / "text.whl").write_text("text")
    with zipfile.ZipFile(here / "other.whl", "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    with pytest.raises(UserError, match=why):
        make_upload(SubmitFlags(**given), target)
