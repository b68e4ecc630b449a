"""The model of docs/scaling.md: what follows from it where it is known, and its tables."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.estimate import A100, Core, Encoder, pass_seconds
from benchmarks.scaling import DETACH, DUAL, FRAME, ROW, Cluster, Measured, parts

ROOT = Path(__file__).resolve().parents[1]


def test_one_core_does_everything_one_after_the_other():
    plain = Measured(call=0.0, object_store=float("inf"), iteration=0.0)
    found = parts(DETACH, Cluster(1), plain)
    assert found.acting == pytest.approx(Core().seconds(Encoder())) == pytest.approx(1 / 700)
    assert found.policy == pytest.approx(1 / plain.policy)
    assert found.aux == pytest.approx(6 / plain.aux + 1 / plain.plain)
    assert found.steps_per_s == pytest.approx(1 / (found.acting + found.policy + found.aux))


def test_two_encoders_cost_two_and_their_values():
    one, two = (parts(setting, Cluster(2, learner_cores=2)) for setting in (DETACH, DUAL))
    measured = Measured()
    assert two.policy == pytest.approx(2 * one.policy + 1 / measured.plain / 2)
    assert two.acting == one.acting


def test_workers_divide_the_environments_and_leave_the_learner_a_core():
    assert Cluster(8, 1).workers(64) == 4 and Cluster(8, 1).workers(56) == 7
    assert Cluster(8).workers(64) == 8 and Cluster(512, 1).workers(64) == 64
    assert Cluster(1, 1).workers(64) == 1


def test_a_network_adds_what_it_carries():
    here = parts(DETACH, Cluster(64, 1))
    there = parts(DETACH, Cluster(64, 1, network=1e9))
    weights = Encoder().parameters * 4 / DETACH.batch
    assert there.transfer - here.transfer == pytest.approx((ROW + weights) / 1e9)
    assert replace(there, transfer=here.transfer) == here


def test_a_gpu_computes_or_launches_whichever_is_longer():
    row = pass_seconds(Encoder(), A100, training=True)
    one = parts(DETACH, Cluster(8, 1)).policy
    assert one == pytest.approx(row + FRAME / A100.upload)
    few = parts(replace(DETACH, aux_rows=8), Cluster(8, 1)).aux
    assert few == pytest.approx(
        6 * scaling.LAUNCHES / 8 + pass_seconds(Encoder(), A100, training=False)
    )


def test_gpus_gain_until_their_share_of_a_minibatch_is_launched_no_faster_than_computed():
    speeds = {gpus: parts(DETACH, Cluster(64, gpus)).steps_per_s for gpus in (1, 2, 4, 8)}
    assert speeds[1] < speeds[2] < speeds[4] > speeds[8]


def test_without_auxiliary_epochs_there_is_no_auxiliary_phase():
    for cluster in (Cluster(8), Cluster(8, 1)):
        assert parts(replace(DETACH, aux_epochs=0), cluster).aux == 0.0


def test_the_model_is_within_a_sixth_of_the_phases_measured_on_one_and_two_cores():
    ratios = [float(line[-1]) for line in scaling.validity_table()]
    assert [phase.cores for phase in scaling.PHASES] == [1, 1, 1, 2, 2, 2]
    assert len(ratios) == 6 and all(5 / 6 < ratio < 7 / 6 for ratio in ratios)


def test_prices_are_the_sums_that_are_written_beside_them():
    for fleet in scaling.fleets():
        terms = [term.split(" x ") for term in fleet.arithmetic.split(" + ")]
        total = sum(math.prod(map(float, factors)) for factors in terms)
        assert total == pytest.approx(fleet.price, abs=0.02)


@pytest.mark.parametrize("name", ["scaling", "validity", "costs"])
def test_the_tables_in_the_documentation_are_those_of_the_code(name: str):
    page = ROOT / "docs" / ("cluster.md" if name == "costs" else "scaling.md")
    text = scaling.tables()[name]
    assert f"<!-- {name} -->\n{text}\n<!-- end of {name} -->" in page.read_text(), (
        "run python -m benchmarks.scaling --markdown docs/scaling.md docs/cluster.md"
    )
