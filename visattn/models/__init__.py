"""Loading models: one file per source library."""

from __future__ import annotations

from visattn.models.catalogue import list_models
from visattn.models.loading import load_model
from visattn.models.model import Model
from visattn.models.preprocessing import Prepared, Preprocessing

__all__ = ["Model", "Prepared", "Preprocessing", "list_models", "load_model"]
