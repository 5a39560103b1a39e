"""Other people's CLIP models, and exports of ours as others read them: run in PyTorch as their own libraries say.

Nothing here is imported before a guest is; torch, transformers and open_clip are looked for then. Weights are read by
those libraries, as safetensors or with ``weights_only=True``.
"""

from clinicclip.guests.base import INSTALL, Reader, installed, version
from clinicclip.guests.guest import Guest
from clinicclip.guests.layouts import READERS, find, lacking, open_reader

__all__ = ["INSTALL", "READERS", "Guest", "Reader", "find", "installed", "lacking", "open_reader", "version"]
