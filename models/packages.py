"""Packages that carry weights: where they are installed. They are read as files and never imported."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


class PackageMissing(Exception):
    """The package is not installed, or another version of it is; the message says which."""


def folder_of(package: str) -> Path:
    """The folder below which the files of *package* lie, a name and its version: `wordllama==0.1.0`.

    Raises PackageMissing.
    """
    name, _, version = package.partition("==")
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise PackageMissing(f"{name} is not installed") from None
    if installed.version != version:
        raise PackageMissing(f"{name} {installed.version} is installed, and the catalogue says {version}")
    return Path(str(installed.locate_file("")))


def is_installed(package: str) -> bool:
    try:
        folder_of(package)
    except PackageMissing:
        return False
    return True
