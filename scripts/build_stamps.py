"""Builds the dataset `stamps` (5 classes, 223 photographs) from the Debian package tuxpaint-stamps-default.

The images are byte for byte those with which the project's accuracies were measured. They are under the GPL-2, like the
package.
"""

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SOURCES = Path(__file__).resolve().parent.parent / "datasets" / "stamps-sources.csv"
PACKAGE = "tuxpaint-stamps-default=2022.06.04-1"
PACKAGE_SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
PICTURES_SHA256 = "3a56f6b51e3df2a8b29fcc712845402bd883bdb7659dbe179f1258259c6d1c24"
LONGEST_SIDE_PX = 320
JPEG_QUALITY = 92


def unpack_package(folder):
    """Downloads the package into `folder` and returns the folder with its images."""
    if subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"build-stamps: {PACKAGE} could not be downloaded; it is in Debian 12 (bookworm)")
    (package,) = folder.glob("*.deb")
    if hashlib.sha256(package.read_bytes()).hexdigest() != PACKAGE_SHA256:
        sys.exit(f"build-stamps: {package.name} does not have the SHA-256 {PACKAGE_SHA256}")
    subprocess.run(["dpkg-deb", "--extract", package.name, "."], cwd=folder, check=True)
    return folder / "usr/share/tuxpaint/stamps"


def convert(source, target):
    """Writes one image on white, reduced to the longest side, as JPEG."""
    picture = Image.open(source).convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.save(target, "JPEG", quality=JPEG_QUALITY, optimize=True)


def main():
    parser = argparse.ArgumentParser(prog="build-stamps", description=__doc__.partition("\n")[0])
    parser.add_argument("dir", type=Path, help="folder for the class folders; must be empty or absent")
    args = parser.parse_args()
    if args.dir.exists() and any(args.dir.iterdir()):
        sys.exit(f"build-stamps: {args.dir} is not empty")
    args.dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as package_dir, tempfile.TemporaryDirectory(dir=args.dir.parent) as new_dir:
        pictures, target = unpack_package(Path(package_dir)), Path(new_dir) / "stamps"
        pictures_hash = hashlib.sha256()
        with open(SOURCES, newline="") as sources:
            for row in csv.DictReader(sources):
                convert(pictures / row["source"], target / row["file"])
                pictures_hash.update((target / row["file"]).read_bytes())
        if pictures_hash.hexdigest() != PICTURES_SHA256:
            sys.exit("build-stamps: the images differ from the measured set; does Pillow have the pinned version?")
        target.rename(args.dir)
    print(f"{args.dir} contains the dataset stamps")


if __name__ == "__main__":
    main()
