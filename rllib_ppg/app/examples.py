"""App: the examples below the options in each command's `--help`."""

TRAIN = """
[bold]Examples[/bold]

  rllib train -f experiments/ppg_procgen.yaml

  rllib train -f experiments/ppg_procgen.yaml --dry-run

  rllib train -f experiments/ppg_procgen.yaml --set env_config.env_name=bigfish --seed 1

  rllib train --run PPG --env CartPole-v1 --stop '{"timesteps_total": 100000}'

Flags override the file. Exit codes: 0 done, 1 a trial failed, 2 wrong usage, 130 (Ctrl-C)
or 143 (SIGTERM) interrupted after a checkpoint.
"""

EVALUATE = """
[bold]Examples[/bold]

  rllib evaluate ~/ray_results/ppg-procgen --levels test --out test.json

  rllib evaluate results/ppg/PPG_procgen_.../checkpoint_000010 --episodes 1000 --temperature 0

  rllib evaluate results/ppg --games all --policy random

docs/evaluation.md says what the numbers mean. Reading a checkpoint runs what it holds: evaluate
only those from sources that you trust.
"""

CHALLENGE = """
[bold]Examples[/bold]

  rllib challenge -f experiments/challenge_generalization.yaml

  rllib challenge -f experiments/challenge_generalization.yaml --games round2 --seeds 1,2,3

  rllib challenge -f experiments/challenge_rehearsal.yaml --dry-run

  rllib challenge -f experiments/challenge_rehearsal.yaml --resume

docs/challenge.md says what is trained and what the numbers mean. Exit codes: 0 done, 1 runs failed,
2 wrong usage, 130 (Ctrl-C) or 143 (SIGTERM) interrupted after a checkpoint.
"""

ABLATION = """
[bold]Examples[/bold]

  rllib ablation -f experiments/ablation_generalization.yaml --games round2

  rllib ablation -f experiments/ablation_sample_efficiency.yaml --budget-scale 0.001 --dry-run

  rllib ablation -f FILE --resume

docs/recipes.md says what is compared and what the numbers mean. Exit codes: 0 done, 1 runs failed,
2 wrong usage, 130 (Ctrl-C) or 143 (SIGTERM) interrupted after a checkpoint.
"""

PLOT = """
[bold]Examples[/bold]

  rllib plot ~/ray_results/ppg-procgen

  rllib plot results/ppg-* results/ppo-* --x hours --out curves.png

  rllib plot results/* --label "PPG=ppg-" --label "PPO=ppo-" --normalize hard --out all.svg

  rllib plot challenge/results.json --kind gap --normalize easy_challenge --out gap.pdf
"""

VIDEO = """
[bold]Examples[/bold]

  rllib video ~/ray_results/ppg-procgen --out agent.mp4

  rllib video CHECKPOINT --grid 2x3 --levels test --overlay name,return --out unseen.mp4

  rllib video CHECKPOINT --overlay all --temperature 0 --out greedy.gif

Reading a checkpoint runs what it holds: give only those from sources that you trust.
"""

SUBMIT = """
[bold]Examples[/bold]

  rllib submit -f experiments/ppg_procgen.yaml --address http://HEAD:8265

  rllib submit -f experiments/ppg_procgen.yaml --storage-path s3://bucket/results --no-wait

  rllib submit --status ID

All other options are those of `rllib train`, which runs on the cluster. docs/cluster.md says what
has to be there. Exit codes: the job's (0 done, 1 a trial failed, 2 wrong usage, 143 stopped);
130: Ctrl-C ended this command, and the job goes on.
"""
