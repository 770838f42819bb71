"""The few lines that MONAI's engines lack."""

from medssl.engine.autocast import AutocastInferer, bfloat16_is_fast
from medssl.engine.best_weights import BestWeights
from medssl.engine.case_metrics import CaseMetrics
from medssl.engine.checkpoint import Checkpoint, leave_sigterm
from medssl.engine.collapse import CollapseMonitor
from medssl.engine.command_line import guard_command_line
from medssl.engine.contrastive_crops import LocateBoxes, PrepareContrastiveCrops
from medssl.engine.feature_spread import FeatureSpread
from medssl.engine.fitting import check_fits
from medssl.engine.guard import NonFiniteGuard
from medssl.engine.known_classes import PrepareKnownClasses
from medssl.engine.leakage import provenance, refuse_learnt
from medssl.engine.overlays import Overlays
from medssl.engine.progress import Progress
from medssl.engine.receipt import network_of, read_first_stage, read_receipt, trained_network, versions
from medssl.engine.sampling import SetEpoch
from medssl.engine.scalars import ScalarLog, total_loss
from medssl.engine.views import PrepareDeformedViews, PrepareRestoration, PrepareTiles, PrepareViews

__all__ = [
    "AutocastInferer",
    "BestWeights",
    "CaseMetrics",
    "Checkpoint",
    "CollapseMonitor",
    "FeatureSpread",
    "LocateBoxes",
    "NonFiniteGuard",
    "Overlays",
    "PrepareContrastiveCrops",
    "PrepareDeformedViews",
    "PrepareKnownClasses",
    "PrepareRestoration",
    "PrepareTiles",
    "PrepareViews",
    "Progress",
    "ScalarLog",
    "SetEpoch",
    "bfloat16_is_fast",
    "check_fits",
    "guard_command_line",
    "leave_sigterm",
    "network_of",
    "provenance",
    "read_first_stage",
    "read_receipt",
    "refuse_learnt",
    "total_loss",
    "trained_network",
    "versions",
]
