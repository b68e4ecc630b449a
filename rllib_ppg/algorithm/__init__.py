"""Algorithm: RLlib's side of PPG: configuration, policy, model, rollout worker, algorithm."""
