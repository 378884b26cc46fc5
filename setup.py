"""What pyproject.toml cannot say: two top-level folders are installed inside the package.

`trainers/` has no ``__init__.py``, because as a package it would hide the `trainers` package of a
CoOp checkout whenever this folder comes first on the search path. It is installed as
`sar.trainers`, and `configs/` as `sar.configs`.
"""

from setuptools import find_packages, setup

DATA = [
    "*.json",
    "*.txt",
    "*.zip",
    "*.safetensors",
    "*.yaml",
    "*.css",
    "*.js",
    "*.j2",
    "*.csv",
    "LICENSE*",
    "*.md",
    "py.typed",
]

setup(
    packages=[*find_packages(include=["sar", "sar.*"]), "sar.trainers", "sar.configs"],
    package_dir={"sar.trainers": "trainers", "sar.configs": "configs"},
    package_data={"": [f"**/{pattern}" for pattern in DATA]},
)
