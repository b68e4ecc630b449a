"""`rllib plot`: from folders of results to figures and tables; mistakes get one message."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from app_helpers import Run, command
from plot_files import RETURN, STEPS, challenge, challenge_run, evaluation, trial, write_csv

from rllib_ppg.app.plot_runs import RETURN_COLUMNS
from rllib_ppg.core.scores import normalized_return

PNG = b"\x89PNG"


def plotted(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    run = command(capsys, "plot", *map(str, words))
    assert run.code == 0, run
    return run


def table(run: Run) -> list[list[str]]:
    """Return the cells of the printed table."""
    lines = [line for line in run.out.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder with two agents on two games, two seeds each."""
    for agent, factor in (("ppg", 2.0), ("ppo", 1.0)):
        for seed in (1, 2):
            for game in ("coinrun", "maze"):
                returns = [5 + factor * k / 10 + seed for k in range(4)]
                folder = tmp_path / "results" / f"{agent}-s{seed}"
                trial(folder, returns, seed=seed, game=game, algorithm=agent)
    return tmp_path / "results"


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Return the results of a challenge of two methods on two games, three seeds each."""
    runs = [
        challenge_run(label, game, seed, 8 + seed / 10, mean + seed / 10)
        for label, mean in (("good", 7.0), ("bad", 6.0))
        for game in ("coinrun", "maze")
        for seed in range(3)
    ]
    return challenge(tmp_path / "challenge", runs)


def test_seeds_are_one_line_and_games_one_panel_each(capsys, results: Path):
    rows = table(plotted(capsys, results, "--games", "coinrun,maze"))
    assert [row[:4] for row in rows] == [
        ["coinrun", "ppg", "2", "400"],
        ["coinrun", "ppo", "2", "400"],
        ["maze", "ppg", "2", "400"],
        ["maze", "ppo", "2", "400"],
    ]
    assert rows[0][4].startswith("7.1 [6.6, 7.6]")


def test_normalised_returns_have_a_mean_over_games(capsys, results: Path):
    rows = table(plotted(capsys, results, "--normalize", "easy_paper"))
    assert [row[:2] for row in rows] == [["ppg", "2 x 2 games"], ["ppo", "2 x 2 games"]]
    expected = sum(
        float(normalized_return(7.1, game, "easy_paper")) for game in ("coinrun", "maze")
    )
    assert rows[0][3].split()[0] == f"{expected / 2:.3g}"


def test_the_same_run_given_twice_counts_once(capsys, results: Path):
    words = [results / "ppg-s1", results / "ppg-s1", *results.glob("ppg-s1/*/progress.csv")]
    assert {row[2] for row in table(plotted(capsys, *words))} == {"1"}


def test_labels_and_references_are_groups_of_their_own(capsys, tmp_path: Path, results: Path):
    rows = [["ppg", game, 0, x, 9.0] for game in ("coinrun", "maze", "heist") for x in (100, 500)]
    reference = write_csv(
        tmp_path / "r.csv", rows, ["method", "game", "seed", "env_steps", "return"]
    )
    run = plotted(capsys, results, "--label", "Ours=ppg", "--reference", reference)
    assert [row[1] for row in table(run) if row[0] == "maze"] == ["Ours", "ppo", "ppg (reference)"]
    assert "heist" not in run.out
    run = plotted(capsys, results, "--group", "algorithm", "--reference", reference)
    names = ["algorithm=ppg", "algorithm=ppo", "ppg (reference)"]
    assert [row[1] for row in table(run) if row[0] == "maze"] == names


def test_without_out_the_curve_is_drawn_and_no_file_written(capsys, results: Path):
    before = sorted(results.rglob("*"))
    run = plotted(capsys, results, "--games", "maze")
    assert "mean return of an episode, maze" in run.out and "+----" in run.out
    assert sorted(results.rglob("*")) == before


@pytest.mark.parametrize("kind", ["bars", "profiles", "improvement", "gap"])
def test_scores_are_drawn_in_every_kind(capsys, tmp_path: Path, scores: Path, kind: str):
    out = tmp_path / "figure.png"
    plotted(capsys, scores, "--kind", kind, "--normalize", "easy_paper", "--out", out)
    assert out.read_bytes().startswith(PNG)


def test_evaluations_are_bars_unless_asked_otherwise(capsys, scores: Path):
    rows = table(plotted(capsys, scores))
    assert rows[0] == ["good", "coinrun", "3", "7.1 [7, 7.2]"] and len(rows) == 4
    rows = table(plotted(capsys, scores, "--normalize", "easy_paper"))
    assert [row[:2] for row in rows if "mean" in row[1]] == [
        ["good", "interquartile mean of 2 games"],
        ["bad", "interquartile mean of 2 games"],
    ]


def test_the_gap_is_train_less_test_run_by_run(capsys, scores: Path):
    rows = table(plotted(capsys, scores, "--kind", "gap", "--games", "maze"))
    assert rows == [
        ["good", "maze", "3", "8.1", "7.1", "1 [1, 1]"],
        ["bad", "maze", "3", "8.1", "6.1", "2 [2, 2]"],
    ]


def test_the_first_group_is_compared_with_the_others(capsys, scores: Path):
    assert table(plotted(capsys, scores, "--kind", "improvement")) == [["good", "bad", "1 [1, 1]"]]
    words = ["--label", "B=bad", "--label", "G=good", "--interval", "none"]
    assert table(plotted(capsys, scores, "-k", "improvement", *words)) == [["B", "G", "0"]]


def test_train_and_test_evaluations_of_a_checkpoint_make_a_gap(capsys, tmp_path: Path):
    for levels, mean in (("train", 8.0), ("test", 6.5)):
        path = tmp_path / f"{levels}.json"
        evaluation(path, mean, checkpoint="x/ppg/t/checkpoint_1", levels=levels, game="maze")
    rows = table(plotted(capsys, *tmp_path.glob("*.json"), "--kind", "gap"))
    assert rows == [["ppg", "maze", "1", "8", "6.5", "1.5"]]


@pytest.fixture
def transfer(tmp_path: Path) -> Path:
    """Return an agent's evaluation on its own game, coinrun, and on two others."""
    path = evaluation(
        tmp_path / "t.json", 9.0, checkpoint="x/ppg/t/c", levels="test", game="coinrun",
        distribution_mode="easy", transfer=False,
    )  # fmt: skip
    content = json.loads(path.read_text())
    own = {name: content.pop(name) for name in ("settings", "summary", "episodes")}
    others = [
        {**own, "settings": {**own["settings"], "game": game, "transfer": True}}
        for game in ("maze", "heist")
    ]
    path.write_text(json.dumps({**content, "games": [own, *others]}))
    return path


def test_transfer_games_are_marked_and_have_a_mean_of_their_own(capsys, transfer: Path):
    rows = table(plotted(capsys, transfer, "--normalize", "easy_paper"))
    games = ["coinrun", "maze (transfer)", "heist (transfer)"]
    assert [row[1] for row in rows] == [*games, "interquartile mean of 2 transfer games"]
    run = plotted(capsys, transfer, "--kind", "profiles")
    assert "Left out, for transfer" in run.err
    run = command(capsys, "plot", str(transfer), "--kind", "gap", "--games", "maze")
    assert run.code == 2 and "no agent was trained on what was played" in run.err


def test_one_agent_on_two_difficulties_is_two_groups_and_never_a_mean(capsys, tmp_path: Path):
    for mode in ("easy", "hard"):
        evaluation(
            tmp_path / f"{mode}.json", 5.0, checkpoint="x/ppg/t/c", levels="all", game="maze",
            distribution_mode=mode,
        )  # fmt: skip
    files = sorted(map(str, tmp_path.glob("*.json")))
    rows = table(plotted(capsys, *files))
    assert [row[0] for row in rows] == [f"played distribution_mode={m}" for m in ("easy", "hard")]
    run = command(capsys, "plot", *files, "--group", "experiment")
    assert run.code == 2 and "distribution_mode easy and hard" in run.err


def test_runs_of_two_difficulties_have_no_mean(capsys, tmp_path: Path):
    for seed, mode in enumerate(("easy", "hard")):
        folder = trial(tmp_path / "exp", [1, 2], seed=seed)
        params = json.loads((folder / "params.json").read_text())
        params["env_config"]["distribution_mode"] = mode
        (folder / "params.json").write_text(json.dumps(params))
    assert len(table(plotted(capsys, tmp_path / "exp"))) == 2
    run = command(capsys, "plot", str(tmp_path / "exp"), "--group", "experiment")
    assert run.code == 2 and "which have no mean" in run.err


def test_curves_of_a_challenge(capsys, tmp_path: Path):
    curve = {"env_steps": [10, 20], "return": [None, 4.0]}
    path = challenge(tmp_path, [challenge_run("ppg", "maze", 1, 1, 1, curve=curve)])
    assert table(plotted(capsys, path, "--kind", "curves")) == [["ppg", "1", "20", "4", "-"]]


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    run = command(capsys, "plot", *map(str, words))
    assert run.code == 2 and run.out == "", run
    assert run.err.startswith("Error: ") and "Traceback" not in run.err
    assert len(run.err.strip().splitlines()) == 1
    return run.err


WRONG = {
    "nothing": ([], "Nothing to plot"),
    "no such run": (["no/run"], "There is no run no/run"),
    "kind": (["R", "--kind", "curve"], 'Did you mean "curves"'),
    "x": (["R", "--x", "steps"], "env_steps, hours, iterations"),
    "metric": (["R", "--y", "episode_returns_mean"], f"The nearest: {RETURN}"),
    "table": (["R", "--normalize", "easypaper"], 'Did you mean "easy_paper"'),
    "table of another difficulty": (["R", "--normalize", "hard"], "tables for those: easy_chall"),
    "normalised steps": (["R", "--y", STEPS, "--normalize", "easy_paper"], "is for returns"),
    "interval": (["R", "--interval", "95"], "bootstrap, t, none"),
    "t of iqm": (["R", "--interval", "t", "--aggregate", "iqm"], "holds for the mean"),
    "smooth": (["R", "--smooth", "1"], "from 0 to below 1"),
    "smooth nan": (["R", "--smooth", "nan"], "from 0 to below 1"),
    "group": (["R", "--group", "algoritm"], 'Did you mean "algorithm"'),
    "label": (["R", "--label", "X=zzz"], "matches no run"),
    "game": (["R", "--games", "coinrum"], "there are coinrun, maze"),
    "reference": (["R", "--reference", "none.csv"], "cannot be read"),
    "levels": (["R", "--levels", "test"], "no effect on --kind curves"),
    "bars of training": (["R", "--kind", "bars"], "needs results of evaluation"),
    "smooth bars": (["S", "--smooth", "0.5"], "no effect on --kind bars"),
    "curves of scores": (["S", "--kind", "curves"], "no learning curve"),
    "raw aggregate": (["S", "--aggregate", "iqm"], "add --normalize"),
    "raw profiles": (["S", "--kind", "profiles"], "add --normalize"),
    "one group": (["S", "-k", "improvement", "--label", "all=*"], "evaluate the same|there is one"),
    "t of profiles": (["S", "-k", "profiles", "--interval", "t"], "bootstrap intervals only"),
    "no such levels": (["S", "--levels", "all"], "scores on test, train levels only"),
    "suffix": (["R", "--out", "f.jpeg"], ".png, .svg, .pdf"),
    "no suffix": (["R", "--out", "f"], ".png, .svg, .pdf"),
    "no folder": (["R", "--out", "no/folder/f.png"], "make it first"),
    "locked folder": (["R", "--out", "/proc/f.png"], "cannot be written"),
    "no place": (["R", "--out", "/dev/null/f.png"], "there is no folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_one_message(capsys, monkeypatch, tmp_path, results, scores, name: str):
    monkeypatch.chdir(tmp_path)
    words, reason = WRONG[name]
    named = {"R": results, "S": scores}
    message = refused(capsys, *(named.get(word, word) for word in words))
    assert any(part in message for part in reason.split("|")), message


def test_a_refused_plot_leaves_an_earlier_figure_as_it_was(capsys, tmp_path: Path, results: Path):
    (tmp_path / "f.png").write_bytes(b"earlier")
    (file,) = results.glob("ppo-s2/*maze/progress.csv")
    file.write_bytes(file.read_bytes()[:-5])
    message = refused(capsys, results, "--out", tmp_path / "f.png")
    assert f"{file} ends in the middle of line 5" in message and "--partial" in message
    assert (tmp_path / "f.png").read_bytes() == b"earlier"
    run = plotted(capsys, results, "--out", tmp_path / "f.png", "--partial")
    assert "left out lines that are not whole (5)" in run.err
    assert (tmp_path / "f.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.png", "results"]


def test_an_output_that_is_a_folder_is_refused(capsys, tmp_path: Path, results: Path):
    (tmp_path / "f.png").mkdir()
    assert "is a folder" in refused(capsys, results, "--out", tmp_path / "f.png")


def shell(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a plot in a process of its own, which then says what it has imported."""
    code = (
        "import sys\nfrom rllib_ppg.app.cli import main\ncode = main(sys.argv[1:])\n"
        "print('loaded:', *{name.split('.')[0] for name in sys.modules})\nsys.exit(code)"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    return subprocess.run(
        [sys.executable, "-c", code, "plot", *map(str, words)],
        env={**variables, **environment}, capture_output=True, text=True,
    )  # fmt: skip


def loaded(run: subprocess.CompletedProcess[str]) -> set[str]:
    assert run.returncode == 0, run
    return set(run.stdout.rsplit("loaded:", 1)[1].split())


HEAVY = {"ray", "torch", "gymnasium", "procgen", "pandas", "matplotlib"}


def test_plots_never_load_ray_and_matplotlib_only_to_write(tmp_path: Path, results: Path):
    assert loaded(shell(results)) & HEAVY == set()
    assert loaded(shell(results, "--out", tmp_path / "f.svg")) & HEAVY == {"matplotlib"}


def test_help_loads_nothing_heavy():
    assert loaded(shell("--help")) & {*HEAVY, "numpy", "scipy"} == set()


def test_no_display_no_home_and_a_strange_matplotlibrc_do_no_harm(tmp_path: Path, results: Path):
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nfigure.dpi: 7\ntext.usetex: True\n")
    place = {"MPLCONFIGDIR": "/dev/null/x", "HOME": "/dev/null", "MATPLOTLIBRC": str(tmp_path)}
    run = shell(results, "--interval", "none", "--out", tmp_path / "f.png", **place)
    assert run.returncode == 0 and run.stderr == "", run
    assert (tmp_path / "f.png").read_bytes().startswith(PNG)
    assert not list(results.glob("**/*matplotlib*"))


def test_every_return_that_is_searched_for_can_be_normalised(capsys, tmp_path: Path):
    for k, column in enumerate(RETURN_COLUMNS):
        folder = trial(tmp_path, [1], seed=k)
        write_csv(folder / "progress.csv", [[5.0, 10, 1]], [column, STEPS, "training_iteration"])
    (row,) = table(plotted(capsys, tmp_path, "--normalize", "easy_paper"))
    assert row[1] == str(len(RETURN_COLUMNS)) and row[3] == "0 [0, 0]"
