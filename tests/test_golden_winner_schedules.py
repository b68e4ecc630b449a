"""Schedules, adaptive discount, best weights and update arithmetic of the generalization winner."""

import golden_files
import numpy as np
import pytest
import winner_a
import winner_files
from golden_files import case_id

from rllib_ppg.algorithm.parts import gamma_rule, phase_plan, run_budget
from rllib_ppg.core.segments import aux_pieces
from rllib_ppg.core.updates import in_steps
from rllib_ppg.errors import UserError

EXACT = {"rtol": 1e-9, "atol": 0}
NAME = "a_schedules"


def make_config(**options):
    return winner_files.make_config(4, 4, nminibatch=1, aux_mbsize=1, **options)


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "hp/lr_schedule"), ids=case_id)
def test_learning_rates(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    config = make_config(**winner_a.rate_options(golden.below("hp"), whole.count("total_steps")))
    rates = [config.rates(int(s), i + 1) for i, s in enumerate(golden["steps"])]
    for column, name in enumerate(("lr_policy", "lr_aux", "lr_value")):
        np.testing.assert_allclose([r[column] for r in rates], golden[name], **EXACT)


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "ent_coef"), ids=case_id)
def test_entropy_coefficients(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    hp = golden.below("hp")
    config = make_config(**winner_a.entropy_options(hp, whole.count("total_steps")))
    found = [config.scheduled("entropy_coeff", int(s)) for s in golden["steps"]]
    np.testing.assert_allclose(found, golden["ent_coef"], **EXACT)


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "gamma_start"), ids=case_id)
def test_the_discount_follows_solved_episodes(path, case):
    golden = golden_files.load(path).below(case)
    options = {}
    if golden["adaptive_gamma"]:  # a largest return that nothing uses is refused
        options = {"adaptive_gamma": True, "return_max": golden.number("return_max")}
    config = make_config(gamma=golden.number("gamma_start"), **options)
    rule = gamma_rule(config)
    for i, expected in enumerate(golden["gamma"]):
        if rule is None:
            assert config.gamma == expected
            continue
        mine = golden["ep_batch"] == i
        rule.note(golden["ep_r"][mine].tolist(), golden["ep_length"][mine].tolist())
        rule.move()
        np.testing.assert_allclose(rule.gamma, expected, **EXACT)
        assert len(rule.lengths) == golden["held"][i]


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "weights_batch"), ids=case_id)
def test_the_best_weights_are_kept_and_end_the_run(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    config = make_config(
        best_weights=True,
        budget_env_steps=whole.count("total_steps"),
        budget_s=golden.number("max_time"),
        budget_margin_s=whole.number("best/buffer_time"),
    )
    budget, steps = run_budget(config), 0
    for i in range(len(golden["n_steps"])):
        steps += int(golden["n_steps"][i])
        returns = golden["ep_r"][golden["ep_batch"] == i].tolist()
        assert budget.note(returns, steps, lambda i=i: {"batch": i}) == golden["snapshot"][i]
        np.testing.assert_allclose(budget.best_return, golden["best_reward"][i], **EXACT)
        assert steps == golden["steps_total"][i]
        assert budget.best_steps == golden["best_steps"][i]
        held = -1 if budget.weights is None else budget.weights["batch"]
        assert held == golden["held_batch"][i]
        # The original goes on where it has nothing to hand in, until its stop keys end it.
        over = budget.used_up(steps, float(golden["elapsed"][i]))
        finish = over and budget.handed_in(steps) is not None
        assert finish == golden["finish"][i]
        assert (held if finish else i) == golden["weights_batch"][i]


def real_options(golden) -> tuple[int, int, dict]:
    """Environments, steps and options of a run at real size."""
    hp = golden.below("hp")
    workers, each, steps, rows, update, accumulates, micro = golden["real"].tolist()
    assert rows == workers * each * steps
    sizes = winner_a.micro_batches(
        rows, hp.count("updates_per_batch"), hp.count("max_minibatch_size")
    )
    assert sizes == {"mbsize_rows": micro, "num_accumulates": accumulates}
    assert update // accumulates == micro
    return (
        workers * each,
        steps,
        {
            **sizes,
            "minibatch_unit": "step",
            "n_epoch_pi": hp.count("num_sgd_iter"),
            "n_epoch_vf": hp.count("num_sgd_iter"),
            "n_pi": hp.count("n_pi"),
            "aux_skips": hp.count("skips"),
            "max_aux_phases": hp.count("num_retunes"),
            **winner_a.aux_options(hp, steps),
        },
    )


def assert_aux_epoch(config, golden) -> None:
    """Compare its minibatches, updates, and the rows of the first and the last minibatch."""
    count = config.aux_minibatches()
    rows = config.num_envs * config.rollout_fragment_length * config.n_pi
    size = config.aux_mbsize_rows or config.aux_mbsize * config.rollout_fragment_length
    found = [count, count // config.aux_num_accumulates, size, rows - (count - 1) * size]
    assert found == golden["aux_epoch"].tolist()


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "micro_size"), ids=case_id)
def test_minibatches_of_a_run_at_real_size(path, case):
    golden = golden_files.load(path).below(case)
    envs, steps, options = real_options(golden)
    config = winner_files.make_config(envs, steps, whole=False, **options)
    pieces = aux_pieces(np.arange(envs * steps), config.mbsize_rows)
    assert len(pieces) == config.policy_minibatches()
    pieces *= config.n_epoch_pi
    assert [len(piece) for piece in pieces] == golden["micro_size"].tolist()
    steps = in_steps(range(len(pieces)), config.num_accumulates)
    ends = [step[-1] for step in steps if len(step) == config.num_accumulates]
    assert ends == np.flatnonzero(golden["apply"]).tolist()
    assert_aux_epoch(config, golden)
    leftover = len(pieces) % config.num_accumulates
    if not leftover and not config.aux_minibatches() % config.aux_num_accumulates:
        config.validate()
        return
    with pytest.raises(UserError, match=r"num_accumulates=.* would make no whole step"):
        config.validate()


@pytest.mark.parametrize("path, case", winner_files.cases(NAME, "run/trained"), ids=case_id)
def test_a_whole_run_at_real_size(path, case):
    whole = golden_files.load(path)
    golden = whole.below(case)
    envs, steps, options = real_options(golden)
    total = whole.count("total_steps")
    rates = golden.below("hp") if "hp/lr" in golden else whole.below("lr/sub/hp")
    config = winner_files.make_config(
        envs,
        steps,
        best_weights=True,
        budget_env_steps=total,
        **options,
        **winner_a.rate_options(rates, total),
    )
    plan, budget, run = phase_plan(config), run_budget(config), golden.below("run")
    env_steps = 0
    for i in range(len(run["trained"])):
        lr, aux_lr, _ = config.rates(env_steps, i + 1)
        np.testing.assert_allclose([lr, aux_lr], [run["lr_policy"][i], run["lr_aux"][i]], **EXACT)
        env_steps += envs * steps
        budget.note([1.0], env_steps, lambda: {"weights": 1})
        trained = not (budget.used_up(env_steps, 0.0) and budget.handed_in(env_steps))
        assert trained == run["trained"][i]
        assert env_steps == run["steps_total"][i]
        micro = config.policy_minibatches() * config.n_epoch_pi if trained else 0
        assert micro == run["micro"][i]
        assert micro // config.num_accumulates == run["updates"][i]
        follows = trained and plan.iteration() == "aux"
        assert follows == bool(run["aux_phase"][i])
        if follows:
            plan.phase_done()
    assert_aux_epoch(config, golden)
