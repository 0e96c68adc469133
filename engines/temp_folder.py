"""A worker's own folder for temporary files, which its guard has made and removes."""

import getpass
import os
import re
import tempfile

VARIABLE = "INNERLOOP_TEMP"  # names it, beside TMPDIR, where the profiler that starts a worker has its lock


def use_own_temp_folder() -> None:
    """Makes it that of this process and of all that it starts; Inductor's cache stays where it is kept between runs."""
    own = os.environ.get(VARIABLE)
    if own and os.path.isdir(own):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _inductor_cache())
        os.environ["TMPDIR"] = own
        tempfile.tempdir = None  # asked again


def _inductor_cache() -> str:
    """As torch/_inductor/runtime/cache_dir_utils.py has it."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = f"uid_{os.getuid()}"
    return os.path.join(tempfile.gettempdir(), "torchinductor_" + re.sub(r'[\\/:*?"<>|]', "_", user))
