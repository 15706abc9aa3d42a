"""Packaging of onnxmi; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

IMAGES = ["pillow>=10"]
TEXT = ["tokenizers>=0.15"]
PARQUET = ["pyarrow>=15"]
# The oldest release that is asked for; tested with 2026.8.0. fsspec and the rest come with it.
DASK = ["distributed>=2024.8"]
# Samples in object storage; the package of each protocol (s3fs, gcsfs, adlfs) is the user's choice.
REMOTE = ["fsspec>=2024.6"]
FOUR_BIT = ["onnx-ir>=0.1.12"]
REPORT = ["jinja2>=3.1", "matplotlib>=3.8"]
CHECKED = ["hypothesis>=6.100", "jsonschema>=4.18", "scipy>=1.11", "scikit-learn>=1.4"]
# cryptography makes the certificates of the tests with TLS; submitit runs the recipe for Slurm.
CLUSTER = [*DASK, *REMOTE, "cryptography>=42", "submitit>=1.5", "pyyaml>=6"]
TEST = ["pytest>=8", "pytest-xdist>=3.5", *CHECKED, *REPORT, *CLUSTER]
DOCS = ["sphinx>=8", "myst-nb>=1.1", "furo>=2024.8.6", "sphinx-copybutton>=0.5"]
NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]
RELEASE = ["build>=1.2", "twine>=6"]
LINT = ["ruff>=0.6", "mypy>=1.11"]


def read_version() -> str:
    # Read as text: importing the package would need its dependencies at build time.
    text = (ROOT / "onnxmi" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__(?:\s*:\s*\w+)?\s*=\s*"([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("onnxmi/version.py defines no __version__")
    return match.group(1)


def read_description() -> str:
    # Files of the repository are not beside what an index shows: pictures are left out, and links are their text.
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    name="onnxmi",
    version=read_version(),
    description="Prune ONNX models by mutual information",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    keywords=["onnx", "pruning", "model compression", "structured pruning", "mutual information", "onnxruntime"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["onnxmi", "onnxmi.*"]),
    package_dir={"": "."},  # an editable install is a plain path then, which type checkers follow
    package_data={"onnxmi": ["py.typed"], "onnxmi.reporting.html": ["templates/*"]},
    python_requires=">=3.11",
    install_requires=[
        "onnx>=1.19",
        "onnxruntime>=1.27",
        "onnx-graphsurgeon>=0.5.2",
        "numpy>=1.26",
        "click>=8.2",
        "rich>=13",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "test": TEST,
        "dev": [*TEST, *LINT, *IMAGES, *TEXT, *PARQUET, *FOUR_BIT, *DOCS, *NOTEBOOKS, *RELEASE],
        "bench": ["torch>=2.5", "matplotlib>=3.8", "scikit-learn>=1.4", "tokenizers>=0.15"],
        "dask": DASK,
        "report": REPORT,
        "browser": ["playwright>=1.45", "axe-playwright-python>=0.1.4"],
        "images": IMAGES,
        "text": TEXT,
        "parquet": PARQUET,
        "remote": REMOTE,
        "docs": [*DOCS, *NOTEBOOKS],
        "release": RELEASE,
        "olive": ["olive-ai>=0.9", "requests>=2.31"],  # olive-ai 0.13 imports requests without asking for it
        "four-bit": FOUR_BIT,
    },
    entry_points={"console_scripts": ["onnxmi = onnxmi.__main__:run"]},
)
