"""App: keys of the shape `{type: NAME, argument: value, ...}`, checked against models."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rllib_ppg.app.yaml_reader import KeyPath
from rllib_ppg.errors import shown
from rllib_ppg.spelling import did_you_mean


class KeyProblems(Exception):
    """What is wrong with some keys of an experiment.

    Args:
        problems: The path of each wrong key, and a sentence that begins with it.
    """

    def __init__(self, *problems: tuple[KeyPath, str]) -> None:
        super().__init__("\n".join(text for _, text in problems))
        self.problems = problems


def problem(path: KeyPath, text: str) -> KeyProblems:
    """One wrong key; the sentence gets its path and a full stop."""
    end = "" if text.endswith((".", "?")) else "."
    return KeyProblems((path, f"{'.'.join(path)}: {text}{end}"))


Model = TypeVar("Model", bound=BaseModel)


def read_typed(
    key: str,
    given: str | Mapping[str, Any] | None,
    models: Mapping[str, type[Model]],
    *,
    default: str,
    aliases: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    others: Collection[str] = (),
) -> Model | dict[str, Any]:
    """Check one such key.

    Args:
        key: Its name.
        given: A type's name alone, or a mapping with `type` and its arguments; None for nothing.
        models: The arguments of each type.
        default: The type where none is given.
        aliases: Other names of types.
        refused: Names of types that cannot be used here, and why.
        others: Types whose arguments are not checked here.

    Returns:
        The arguments as their model; of another type, the mapping.

    Raises:
        KeyProblems: If the type is unknown, or an argument is unknown or wrong.
    """
    spec = {"type": given} if isinstance(given, str) else dict(given or {})
    name = spec.pop("type", default)
    if not isinstance(name, str):
        raise problem((key, "type"), f"{shown(name)} must be a name, such as {default}")
    plain = name.lower()
    plain = (aliases or {}).get(plain, plain)
    if plain in (refused or {}):
        raise problem((key, "type"), f"{name} {(refused or {})[plain]}")
    if plain in others:
        return {"type": plain, **spec}
    if plain not in models:
        known = [*models, *(aliases or {}), *others]
        hint = did_you_mean(name, known) or f" Known: {', '.join([*models, *others])}."
        raise problem((key, "type"), f'unknown {key} "{name}".{hint}')
    return _checked(key, plain, spec, models[plain])


def _checked(key: str, name: str, spec: Mapping[str, Any], model: type[Model]) -> Model:
    arguments = [argument for argument in model.model_fields if argument != "type"]
    unknown = []
    for argument in spec:
        if argument not in arguments:
            hint = did_you_mean(argument, arguments)
            hint = hint or f" It takes {', '.join(arguments) or 'no arguments'}."
            text = f'{key}.{argument}: {name} takes no "{argument}".{hint}'
            unknown.append(((key, argument), text))
    if unknown:
        raise KeyProblems(*unknown)
    try:
        return model(type=name, **spec)
    except ValidationError as error:
        raise KeyProblems(*_described(key, error)) from None


def _described(key: str, error: ValidationError) -> list[tuple[KeyPath, str]]:
    found: dict[KeyPath, list[str]] = {}
    values: dict[KeyPath, Any] = {}
    for item in error.errors(include_url=False):
        path = (key, *map(str, item["loc"][:1]))
        reason = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        reason = reason.replace("a valid boolean", "true or false")
        reason = reason.replace("a valid dictionary", "a mapping").replace("a valid list", "a list")
        missing = item["type"] == "missing"
        values[path] = None if missing else item["input"]
        found.setdefault(path, []).append("is missing" if missing else reason)
    return [
        (path, f"{'.'.join(path)}: {_given(values[path], why)}{' or '.join(dict.fromkeys(why))}.")
        for path, why in found.items()
    ]


def _given(value: Any, reasons: list[str]) -> str:
    return "" if "is missing" in reasons else f"{shown(value)} "
