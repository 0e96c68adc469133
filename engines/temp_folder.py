"""A worker's own folder for temporary files, which its guard has made and removes."""

import getpass
import os
import re
import tempfile
from contextlib import suppress

VARIABLE = "INNERLOOP_TEMP"  # names it, beside TMPDIR, where the profiler that starts a worker has its lock
CACHES = {  # where among temporary files libraries keep kernels from run to run, by the variable that says otherwise
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor_{user}",  # torch/_inductor/runtime/cache_dir_utils.py
    "CUTE_DSL_CACHE_DIR": "{user}/cutlass_python_cache",  # nvidia-cutlass-dsl: base_dsl/cache_helpers.py
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "{user}/flash_attention_cute_dsl_cache",
    "QUACK_CACHE_DIR": "{user}/quack_cache",
}
VOCABULARIES = {  # where they keep vocabularies that they have downloaded, or that somebody has put there
    "TIKTOKEN_CACHE_DIR": "data-gym-cache",  # tiktoken/load.py, before DATA_GYM_CACHE_DIR
    "TIKTOKEN_RS_CACHE_DIR": "tiktoken-rs-cache",  # openai-harmony: src/tiktoken_ext/public_encodings.rs
}


def use_own_temp_folder() -> None:
    """Makes it that of this process and of all that it starts; caches of kernels stay where they are between runs, and
    so do vocabularies that are there already (a machine without a network has no others). Those caches are linked too:
    torch asks no variable for where its compiled C++ header is (_HEADER_DIR, torch/_inductor/codecache.py)."""
    own = os.environ.get(VARIABLE)
    if own and os.path.isdir(own):
        usual, user = tempfile.gettempdir(), _user()
        for name, place in CACHES.items():
            folder, link = (os.path.join(root, place.format(user=user)) for root in (usual, own))
            os.environ.setdefault(name, folder)
            if os.path.isdir(folder):
                with suppress(OSError):  # it is there, of a process that started this one
                    os.makedirs(os.path.dirname(link), exist_ok=True)
                    os.symlink(folder, link)
        for name, place in VOCABULARIES.items():
            folder = os.path.join(usual, place)
            if os.path.isdir(folder) and not (name == "TIKTOKEN_CACHE_DIR" and "DATA_GYM_CACHE_DIR" in os.environ):
                os.environ.setdefault(name, folder)
        os.environ["TMPDIR"] = own
        tempfile.tempdir = None  # asked again


def _user() -> str:
    """As these libraries have it in a path."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = f"uid_{os.getuid()}"
    return re.sub(r'[\\/:*?"<>|]', "_", user)
