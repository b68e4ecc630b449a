"""Run the Dockerfile's steps without a Docker engine: in a fresh Debian root, as root of a machine.

    sudo python docker/check_in_fresh_root.py /tmp/root --build-arg TORCH_INDEX=https://pypi.org/simple

What stands in for the base image is Debian 12 (its Python is 3.11 too) with the user `ray` and a
Python environment of that user's where Ray's image has one. So this shows that the steps work from
nothing, with these files alone, as that user; it does not show that Ray's image holds nothing that
gets in the way. Needs debootstrap, dockerfile-parse (`pip install ".[dev]"`) and some 3 GB.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dockerfile_parse import DockerfileParser

PROJECT = Path(__file__).resolve().parents[1]
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
HOME = "/home/ray"
PYTHON = f"{HOME}/anaconda3"  # where Ray's image has its own
BASE_ENV = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "PATH": f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
PASSED = re.compile(r"PIP_|.*_proxy$|.*_PROXY$|SSL_CERT_FILE$|REQUESTS_CA_BUNDLE$")
"""Variables of the caller that steps see: how packages are reached from this machine."""

QUICK = [
    "train", "-f", "/opt/rllib_ppg/experiments/ppg_cartpole.yaml", "--storage-path", "/tmp/results",
    "--set", "num_env_runners=0", "--stop", '{"training_iteration": 2}', "--no-progress",
]  # fmt: skip


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether .dockerignore leaves a file out; the last pattern that matches decides.

    Args:
        path: Of the file, relative to the context.
        patterns: The lines of .dockerignore.
    """
    parts = path.split("/")
    names = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    result = False
    for pattern in patterns:
        inner = pattern.removeprefix("!").strip("/")
        if any(re.fullmatch(_as_regex(inner), name) for name in names):
            result = not pattern.startswith("!")
    return result


def _as_regex(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(known[p] if p in known else _keep_sets(p) for p in pieces)


def _keep_sets(text: str) -> str:
    return re.sub(r"\\\[(.*?)\\\]", r"[\1]", re.escape(text))


def context(project: Path) -> list[str]:
    """The files that are sent to the engine, relative to the project."""
    lines = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    found = []
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name not in (".git", ".venv")]
        place = Path(folder).relative_to(project)
        found += [(place / name).as_posix() for name in names]
    return sorted(path for path in found if not ignored(path, patterns))


def instructions(project: Path) -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions with their values, comments left out, lines joined."""
    with open(project / "Dockerfile", "rb") as file:
        for entry in DockerfileParser(fileobj=file).structure:
            if entry["instruction"] != "COMMENT":
                yield entry["instruction"].upper(), entry["value"]


class Build:
    """The steps of a Dockerfile, carried out in a folder.

    Args:
        root: The folder; what would be `/` of the image.
        arguments: Build arguments.
    """

    def __init__(self, root: Path, arguments: Mapping[str, str]) -> None:
        self.root, self.given = root, dict(arguments)
        self.arguments: dict[str, str] = {}
        self.env: dict[str, str] = dict(BASE_ENV)
        self.folder, self.user = "/", "1000"
        self.words: dict[str, list[str]] = {}

    def run(self, command: Sequence[str]) -> None:
        """Run a command in the root as the present user, with what is known at this step."""
        group = "0:0" if self.user == "0" else f"{self.user}:100"
        inside = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', self.folder, *command]
        passed = {name: value for name, value in os.environ.items() if PASSED.match(name)}
        subprocess.run(
            ["chroot", f"--userspec={group}", str(self.root), *inside],
            env={**passed, **self.arguments, **self.env}, check=True,
        )  # fmt: skip

    def all(self, project: Path) -> None:
        """Carry out every instruction."""
        started = False
        for name, value in instructions(project):
            print(f"--- {name} {' '.join(value.split())[:120]}", flush=True)
            if name == "FROM" and started:
                raise SystemExit("Error: builds in several stages are not known here")
            started = started or name == "FROM"
            self.step(name, value, project)

    def step(self, name: str, value: str, project: Path) -> None:
        """Carry out one instruction."""
        kinds = {
            "ARG": self._arg, "ENV": self._env, "WORKDIR": self._workdir, "USER": self._user,
            "RUN": lambda text: self.run(["/bin/sh", "-c", text]),
            "COPY": lambda text: self._copy(text, project),
            "ENTRYPOINT": lambda text: self._words(name, text),
            "CMD": lambda text: self._words(name, text),
            "HEALTHCHECK": lambda text: self._words(name, text.partition("CMD")[2]),
            "FROM": lambda text: None, "LABEL": lambda text: None,
        }  # fmt: skip
        if name not in kinds:
            raise SystemExit(f"Error: the instruction {name} is not known here")
        kinds[name](value)

    def _arg(self, value: str) -> None:
        key, _, default = value.partition("=")
        self.arguments[key] = self.given.get(key, self._filled(default))

    def _env(self, value: str) -> None:
        for word in shlex.split(value):
            key, _, text = word.partition("=")
            self.env[key] = self._filled(text)

    def _workdir(self, value: str) -> None:
        self.folder = self._filled(value)
        self._host(self.folder).mkdir(parents=True, exist_ok=True)

    def _user(self, value: str) -> None:
        self.user = self._filled(value)

    def _words(self, name: str, value: str) -> None:
        self.words[name] = json.loads(value)

    def _filled(self, text: str) -> str:
        return string.Template(text).substitute({**self.arguments, **self.env})

    def _host(self, path: str) -> Path:
        return self.root / os.path.join(self.folder, path).lstrip("/")

    def _copy(self, value: str, project: Path) -> None:
        """COPY: of a folder its content; the copies are root's."""
        *sources, target = shlex.split(self._filled(value))
        files = context(project)
        for source in sources:
            found = [path for path in files if path == source or path.startswith(f"{source}/")]
            if not found:
                raise SystemExit(f"Error: COPY {source}: not in what is sent to the engine")
            for path in found:
                inner = "" if path == source else path[len(source) + 1 :]
                place = self._host(target) / inner
                if path == source and target.endswith("/"):
                    place = self._host(target) / Path(path).name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(project / path, place)


def make_root(root: Path, mirror: str) -> None:
    """Make what stands in for the base image, unless it is there."""
    if not (root / "etc").exists():
        packages = "--include=ca-certificates,python3,python3-venv"
        words = ["debootstrap", "--variant=minbase", packages, SUITE, str(root), mirror]
        subprocess.run(words, check=True)
    if not (root / HOME.lstrip("/")).exists():
        for words in (
            [
                "useradd",
                "--create-home",
                "--home-dir",
                HOME,
                "--uid",
                "1000",
                "--gid",
                "100",
                "ray",
            ],
            ["su", "ray", "-c", f"python3 -m venv {PYTHON}"],
        ):
            subprocess.run(["chroot", str(root), *words], check=True)


def prepare_host_folders(root: Path, folders: Sequence[str]) -> None:
    """Show the root what steps need of this machine; all of it ends with this process's mounts."""
    mounts = ["/proc", "/dev", "/dev/shm", "/etc/resolv.conf", *folders]
    mounts += [os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ]
    for place in mounts:
        inside = root / place.lstrip("/")
        if Path(place).is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        subprocess.run(["mount", "--bind", place, str(inside)], check=True)


def main() -> int:
    """Build, then run the health check, the entry point and two iterations of training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder to build in; made unless it is there")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    read = "folder of this machine that steps may read, such as one of wheels"
    parser.add_argument("--host-folder", action="append", default=[], metavar="DIR", help=read)
    parser.add_argument("--mirror", default=MIRROR)
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("Error: chroot needs root")
    if "FRESH_ROOT_MOUNTS" not in os.environ:  # mounts of our own, which nobody has to undo
        os.environ["FRESH_ROOT_MOUNTS"] = "own"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    make_root(given.root, given.mirror)
    prepare_host_folders(given.root, given.host_folder)
    build = Build(given.root, dict(word.split("=", 1) for word in given.build_arg))
    build.all(PROJECT)
    for words in (
        build.words["HEALTHCHECK"],
        [*build.words["ENTRYPOINT"], *build.words["CMD"]],
        [*build.words["ENTRYPOINT"], "--version"],
        [*build.words["ENTRYPOINT"], *QUICK],
    ):
        print(f"--- as {build.user}: {shlex.join(words)}", flush=True)
        build.run(words)
    print("\nAll steps of the Dockerfile, its health check and its entry point have worked.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
