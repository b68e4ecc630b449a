"""App: `rllib ablation`: what each part of a recipe brings, by training without it.

Every experiment of the file is a challenge of its own, with the same games, seeds, budget and
evaluation, in a folder within the ablation's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rllib_ppg.app import cluster
from rllib_ppg.app.ablation_file import Ablation, Variant, load_ablation
from rllib_ppg.app.ablation_flags import AblationFlags
from rllib_ppg.app.challenge import (
    Run,
    check_folder,
    describe,
    dry_run,
    is_begun,
    play,
    train_flags,
)
from rllib_ppg.app.challenge_interrupt import interruptible, say_how_to_go_on
from rllib_ppg.app.interrupt import INTERRUPTED
from rllib_ppg.app.run_folder import check_writable
from rllib_ppg.app.train import import_modules, waiting
from rllib_ppg.errors import UserError

_DROPOUT = "model.custom_model_config.dropout"

# Keys that decide on what is scaled to what; an experiment that changes one is scaled by itself.
_SIZES = ("num_envs", "rollout_fragment_length", "n_pi", "aux_skips")


@dataclass(frozen=True)
class _Play:
    """An ablation under way: a run for each of its variants."""

    ablation: Ablation
    runs: tuple[Run, ...]


def run_ablation(flags: AblationFlags, command: Sequence[str]) -> int:
    """Run an ablation, or go on with it.

    Args:
        flags: The flags of the command line.
        command: Its words after `rllib`, to be shown again.

    Returns:
        The exit code: 0 done, 1 some runs failed, 130 or 143 interrupted by Ctrl-C or SIGTERM.

    Raises:
        UserError: If anything that was given is wrong; nothing has been started or written then.
    """
    return interruptible(
        lambda: _run(flags, command), lambda: bool(_begun(load_ablation(flags), flags)), command
    )


def _run(flags: AblationFlags, command: Sequence[str]) -> int:
    if flags.resume and flags.dry_run:
        raise UserError("--dry-run describes a new ablation; leave --resume out.")
    ablation = load_ablation(flags)
    settings = cluster.ray_settings(train_flags(flags))
    _check_folders(ablation, flags)
    check_writable(ablation.variants[0].challenge.experiment)
    cluster.prepare_environment(settings)
    with waiting("Checking ..."):
        import_modules(flags.imports)
        cluster.quiet_logging(settings)
        found = _Play(ablation, _sized(ablation, settings, flags, command))
    for line in _lines(found):
        print(line)
    return dry_run(found.runs[0]) if flags.dry_run else _play(found, command)


def _begun(ablation: Ablation, flags: AblationFlags) -> list[Variant]:
    """The variants that have something to resume."""
    return [each for each in ablation.variants if is_begun(each.challenge, flags)]


def _check_folders(ablation: Ablation, flags: AblationFlags) -> None:
    """Refuse to begin where an ablation lies already, and to go on where none or another does."""
    begun = _begun(ablation, flags)
    if flags.resume and not begun:
        raise UserError(
            f"There is no ablation in {ablation.folder} to resume. Start it without --resume, or "
            "name it with --experiment-name and --storage-path."
        )
    if begun and not flags.resume:
        raise UserError(
            f"There is an ablation in {ablation.folder} already. --resume goes on with it, "
            "--experiment-name NAME begins another one."
        )
    for variant in begun:
        check_folder(variant.challenge, flags)


def _sized(
    ablation: Ablation,
    settings: cluster.RaySettings,
    flags: AblationFlags,
    command: Sequence[str],
) -> tuple[Run, ...]:
    """Check and scale every variant, all to the sizes of the first unless they change them.

    Raises:
        UserError: If one is wrong, or trains another number of environment steps.
    """
    from rllib_ppg.app.challenge_trials import size

    begun = _begun(ablation, flags)
    first, *others = ablation.variants
    sized = size(first.challenge, settings)
    runs = [Run(first.challenge, sized, settings, _own_flags(flags, first in begun), command)]
    for each in others:
        config, reference = (v.challenge.experiment.config for v in (each, first))
        same = all(config.get(name) == reference.get(name) for name in _SIZES)
        found = size(each.challenge, settings, sized.sizes if same else None)
        if found.steps != sized.steps:
            raise UserError(
                f"{each.challenge.name} would train {found.steps:,} environment steps and "
                f"{first.challenge.name} {sized.steps:,}; give a budget (--budget-steps) that both "
                "divide into whole iterations."
            )
        own = _own_flags(flags, each in begun)
        runs.append(Run(each.challenge, found, settings, own, command))
    return tuple(runs)


def _own_flags(flags: AblationFlags, begun: bool) -> AblationFlags:
    return replace(flags, resume=flags.resume and begun)


def _lines(found: _Play) -> list[str]:
    """What the ablation is, before it starts."""
    ablation, (first, *_) = found.ablation, found.runs
    trials = len(found.runs) * first.challenge.protocol.num_trials
    lines = [f"{ablation.name}: {len(found.runs)} experiments, {trials} trials"]
    lines += [f"  {note}" for note in ablation.notes]
    for variant in ablation.variants[1:]:
        lines.append(f"  {variant.challenge.name}: {', '.join(variant.changes)}")
    lines += [f"  {note}" for note in _same_trainings(found)]
    title, *rest = describe(replace(first.challenge, replaced=[]), first.sized)
    return [*lines, f"Each experiment as {title}", *rest]


def _same_trainings(found: _Play) -> Iterator[str]:
    """Name the experiments that are the first one's training, because no auxiliary phase runs."""
    from rllib_ppg.algorithm.idle_keys import AUX_KEYS

    first, *others = zip(found.ablation.variants, found.runs, strict=True)
    if first[1].sized.aux_phases:
        return
    names = []
    for variant, run in others:
        idle = {*AUX_KEYS, *([] if run.sized.config.get("drac_weight") else [_DROPOUT])}
        # An option of an augmentation changes what the augmentation's key says.
        changed = {key if key in idle else key.split(".")[0] for key in variant.changed}
        if not run.sized.aux_phases and changed <= idle:
            names.append(variant.challenge.name)
    if names:
        yield (
            f"No auxiliary phase runs within {first[1].sized.steps:,} environment steps, so "
            f"{', '.join(names)} {'are' if len(names) > 1 else 'is'} the same training as "
            f"{first[0].challenge.name}."
        )


def _play(found: _Play, command: Sequence[str]) -> int:
    """Train, evaluate and score all variants, the table made anew after each."""
    from rllib_ppg.app.ablation_results import print_table, write_results

    code = 0
    for number, run in enumerate(found.runs, start=1):
        print(f"\nExperiment {number} of {len(found.runs)}: {run.challenge.name}")
        code = max(code, play(run))
        if code >= INTERRUPTED:
            say_how_to_go_on("Interrupted.", command)
            return code
        write_results(found.ablation, command)
    print_table(found.ablation)
    return code
