from .checkpoint import (
    CheckpointDownloadError,
    CheckpointError,
    check_checkpoint,
    forbid_unsafe_loading,
    load_checkpoint_safely,
    local_checkpoint,
)
from .config import ConfigError, load_config, remove_pretrained, set_data_root
from .distributed import set_launcher
from .errors import message_of

__all__ = [
    "CheckpointDownloadError",
    "CheckpointError",
    "ConfigError",
    "check_checkpoint",
    "forbid_unsafe_loading",
    "load_checkpoint_safely",
    "load_config",
    "local_checkpoint",
    "message_of",
    "remove_pretrained",
    "set_data_root",
    "set_launcher",
]
