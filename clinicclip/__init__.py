"""Medical CLIP in JAX: trains, evaluates and exports chest-X-ray image-report models that understand negation."""

__version__ = "0.1.0"
