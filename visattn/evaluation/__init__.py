"""Evaluation: planted evidence and scores on it, mosaics, deletion and insertion."""

from visattn.evaluation.difficulty import LEVELS, Difficulty
from visattn.evaluation.localization import energy_pointing, rank_accuracy
from visattn.evaluation.measured import Measured
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.pointing import pointing_game
from visattn.evaluation.scene import Scene
from visattn.evaluation.scoring import METRICS, Score, scored

__all__ = [
    "LEVELS",
    "METRICS",
    "Difficulty",
    "Measured",
    "PlantedEvidence",
    "Scene",
    "Score",
    "energy_pointing",
    "pointing_game",
    "rank_accuracy",
    "scored",
]
