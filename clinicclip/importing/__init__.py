"""Weights from elsewhere: single towers and whole models, whole or not at all."""

from clinicclip.importing.hints import own_terms, trained_with
from clinicclip.importing.hub import cached, folder_of, locate
from clinicclip.importing.towers import fit_swin, load_image_tower, load_text_tower, read_image_tower, read_text_tower
from clinicclip.importing.whole import Imported, load_model, table

__all__ = [
    "Imported",
    "cached",
    "fit_swin",
    "folder_of",
    "load_image_tower",
    "load_model",
    "load_text_tower",
    "locate",
    "own_terms",
    "read_image_tower",
    "read_text_tower",
    "table",
    "trained_with",
]
