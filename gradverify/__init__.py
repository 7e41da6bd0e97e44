"""gradverify: is every hand-written gradient right, for every shape, and does learning work?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gradverify.config import Profile
    from gradverify.declare import Buffer, Constant, Input, Output, Param
    from gradverify.derivatives import oracle
    from gradverify.engine import verify
    from gradverify.errors import GradverifyError, SpecError, UsageError
    from gradverify.layer import Layer
    from gradverify.loading import catalog
    from gradverify.parts import Part
    from gradverify.proof import Proof, prove
    from gradverify.result import Finding, Report, Status, Verdict
    from gradverify.spec import Spec
    from gradverify.testing import check, parametrize

# Where each public name lives; it is imported when first asked for, so that importing
# gradverify (as the pytest plugin of a project that does not use it does) costs nothing.
_HOMES = {
    "Buffer": "declare", "Constant": "declare", "Finding": "result", "GradverifyError": "errors",
    "Input": "declare", "Layer": "layer", "Output": "declare", "Param": "declare",
    "Part": "parts", "Profile": "config", "Proof": "proof", "Report": "result", "Spec": "spec",
    "SpecError": "errors", "Status": "result", "UsageError": "errors", "Verdict": "result",
    "catalog": "loading", "check": "testing", "oracle": "derivatives", "parametrize": "testing",
    "prove": "proof", "verify": "engine",
}  # fmt: skip

__all__ = [
    "Buffer", "Constant", "Finding", "GradverifyError", "Input", "Layer", "Output", "Param",
    "Part", "Profile", "Proof", "Report", "Spec", "SpecError", "Status", "UsageError", "Verdict",
    "catalog", "check", "oracle", "parametrize", "prove", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gradverify' has no attribute {name!r}")
    return getattr(import_module(f"gradverify.{_HOMES[name]}"), name)
