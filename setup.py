"""Packaging of innerloop: `pip install -e .` to use it from a checkout, `.[dev]` to work on it.

A wheel installs `innerloop` and nothing beside it. An editable install also finds `harness`, so that
`python -m harness.run` works in any folder as it does in the checkout.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
EDITABLE = find_packages(include=["harness", "harness.*"]) if "editable_wheel" in sys.argv else []

setup(
    name="innerloop",
    version="0.1.0",
    description="An in-process benchmarker for LLM inference engines: the engine's own step loop, without a server",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    packages=[*find_packages(include=["innerloop", "innerloop.*"]), "innerloop.profiles", *EDITABLE],
    package_data={"innerloop.profiles": ["*/*.yaml", "engines/locks/*"]},
    install_requires=[
        "filelock>=3.13",
        "numpy>=1.26",
        "nvidia-ml-py>=12.535",
        "platformdirs>=4",
        "psutil>=5.9",
        "py-spy>=0.4",
        "pyarrow>=15",
        "pydantic>=2.6",
        "PyYAML>=6",
        "rich>=13",
        "uv>=0.9",
    ],
    extras_require={
        "dev": [
            "mypy>=1.11",
            "perfetto>=0.50",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "safetensors>=0.4",
            "tokenizers>=0.20",
            "types-psutil",
            "types-PyYAML",
        ],
    },
    entry_points={"console_scripts": ["innerloop = innerloop.harness.__main__:console"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Benchmark",
    ],
)
