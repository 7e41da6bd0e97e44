"""The package that an adapter stands for, imported when a layer of it is first made."""

import importlib
from typing import Any

from gradverify.errors import UsageError


def framework(module: str, extra: str, function: str) -> Any:
    """Import the package that an adapter stands for; UsageError with the install command."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UsageError(
            f"{function} needs the package {extra}: pip install 'gradverify[{extra}]'"
        ) from None
