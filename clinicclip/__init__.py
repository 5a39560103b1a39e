"""Medical CLIP in JAX: trains, evaluates and exports chest-X-ray image-report models that understand negation."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clinicclip.api import ClinicCLIP

__all__ = ["ClinicCLIP"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``ClinicCLIP`` at its first use: the package alone imports neither jax nor flax."""
    if name in __all__:
        return getattr(importlib.import_module("clinicclip.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
