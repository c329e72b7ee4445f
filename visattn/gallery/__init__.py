"""Galleries: a folder of photos and clips, explained, drawn and laid out on one page."""

from __future__ import annotations

from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig
from visattn.gallery.engine import Engine, LoadedModel, TorchEngine
from visattn.gallery.export import export_gallery
from visattn.gallery.manifest import Entry, Manifest
from visattn.gallery.render import Rendering, render_gallery
from visattn.gallery.resolve import load_config, resolve_config
from visattn.gallery.run import run_gallery
from visattn.gallery.saliency_clip import SaliencyClip
from visattn.gallery.store import Store, UnfinishedError
from visattn.gallery.summary import Summary
from visattn.gallery.terminal import run_on_terminal

__all__ = [
    "Engine",
    "Entry",
    "GalleryConfig",
    "LoadedModel",
    "Manifest",
    "MethodConfig",
    "ModelConfig",
    "Rendering",
    "SaliencyClip",
    "Store",
    "Summary",
    "TorchEngine",
    "UnfinishedError",
    "export_gallery",
    "load_config",
    "render_gallery",
    "resolve_config",
    "run_gallery",
    "run_on_terminal",
]
