"""A model's weights on disk: made from its profile, or a folder of the user's that is checked against it."""

from innerloop.harness.checkpoints.cache import checkpoints_folder, ensure_checkpoint, planned_checkpoint
from innerloop.harness.checkpoints.tensors import plan
from innerloop.harness.checkpoints.weights import Checkpoint, use_weights
from innerloop.harness.store.folders import DiskFull

__all__ = [  # for other rooms; files of this one import each other
    "Checkpoint",
    "DiskFull",
    "checkpoints_folder",
    "ensure_checkpoint",
    "plan",
    "planned_checkpoint",
    "use_weights",
]
