"""A trained model as a folder that PyTorch users load without this package."""

from clinicclip.exporting.folder import Export, is_export, load_export, write_export
from clinicclip.exporting.origin import FILE as ORIGIN
from clinicclip.exporting.origin import Origin

__all__ = ["ORIGIN", "Export", "Origin", "is_export", "load_export", "write_export"]
