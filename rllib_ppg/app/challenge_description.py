"""App: the description of a challenge in its results folder, by which it is resumed and scored."""

from pathlib import Path
from typing import Any

import yaml

from rllib_ppg.app.challenge_file import Challenge
from rllib_ppg.app.challenge_protocol import Protocol
from rllib_ppg.app.run_folder import write_text
from rllib_ppg.app.yaml_reader import read_yaml
from rllib_ppg.errors import UserError

DESCRIPTION = "challenge.yaml"
"""The challenge as it was started, in its results folder; a challenge file itself."""


def read_challenge(path: Path) -> tuple[Protocol, dict[str, Any]]:
    """Read the protocol and the experiment's configuration of the challenge in a folder.

    Raises:
        UserError: If it is broken.
    """
    data = read_yaml(path.read_text(encoding="utf-8"), str(path)).data
    try:
        (content,) = data.values()
        return Protocol(**content["protocol"]), dict(content["experiment"]["config"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} is not as it was written ({' '.join(str(error).split())})."
        ) from None


def write_challenge(challenge: Challenge) -> None:
    """Write the description of a challenge into its folder."""
    keys = challenge.experiment.keys.model_dump(
        exclude_unset=True, exclude={"env", "stop", "storage_path"}
    )
    content = {challenge.name: {"protocol": challenge.protocol.model_dump(), "experiment": keys}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(challenge.folder / DESCRIPTION, text)
