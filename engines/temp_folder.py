"""A worker's own folder for temporary files, which its guard has made and removes."""

import fcntl
import getpass
import importlib.util
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
# Where torch keeps compiled C++ headers, for which it asks no variable: _HEADER_DIR, torch/_inductor/codecache.py.
HEADERS = "torchinductor_{user}/precompiled_headers"
CUT_OFF = b"gpcWrite"  # how GCC's compiled header begins until it is whole, and begins with gpch: gcc/c-family/c-pch.cc
VOCABULARIES = {  # where they keep vocabularies that they have downloaded, or that somebody has put there
    "TIKTOKEN_CACHE_DIR": "data-gym-cache",  # tiktoken/load.py, before DATA_GYM_CACHE_DIR
    "TIKTOKEN_RS_CACHE_DIR": "tiktoken-rs-cache",  # openai-harmony: src/tiktoken_ext/public_encodings.rs
}


def use_own_temp_folder() -> None:
    """Makes it that of this process and of all that it starts; caches of kernels stay where they are between runs, and
    so do vocabularies that are there already (a machine without a network has no others)."""
    own = os.environ.get(VARIABLE)
    if own and os.path.isdir(own):
        usual, user = tempfile.gettempdir(), _user()
        for name, place in CACHES.items():
            os.environ.setdefault(name, os.path.join(usual, place.format(user=user)))
        for name, place in VOCABULARIES.items():
            folder = os.path.join(usual, place)
            if os.path.isdir(folder) and not (name == "TIKTOKEN_CACHE_DIR" and "DATA_GYM_CACHE_DIR" in os.environ):
                os.environ.setdefault(name, folder)
        if importlib.util.find_spec("torch"):
            _link(HEADERS.format(user=user), usual, own)
        os.environ["TMPDIR"] = own
        tempfile.tempdir = None  # asked again


def _link(place: str, usual: str, own: str) -> None:
    """Makes `place` in the worker's own folder a link to that place in the user's, so that it stays from run to run."""
    folder, link = os.path.join(usual, place), os.path.join(own, place)
    with suppress(OSError):  # a process that this one starts finds the link there
        os.makedirs(os.path.join(folder, "locks"), exist_ok=True)
        if all(os.stat(one).st_uid == os.getuid() for one in (folder, os.path.dirname(folder))):  # /tmp is everybody's
            _remove_cut_off(folder)
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(folder, link)


def _remove_cut_off(folder: str) -> None:
    """Removes headers whose compiler was killed: torch never makes anew what is there, and GCC passes over it."""
    for name in os.listdir(folder):
        if name.endswith(".h.gch"):
            path, lock = os.path.join(folder, name), os.path.join(folder, "locks", name.replace(".h.gch", ".lock"))
            with suppress(OSError), open(lock, "a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # torch's own: nobody is making it
                with open(path, "rb") as header:
                    cut_off = CUT_OFF.startswith(header.read(len(CUT_OFF)))
                if cut_off:
                    os.unlink(path)


def _user() -> str:
    """As these libraries have it in a path."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = f"uid_{os.getuid()}"
    return re.sub(r'[\\/:*?"<>|]', "_", user)
