"""Images: a folder with one folder for each label, or NumPy arrays in a `.npz` file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments

Image = npt.NDArray[np.uint8]  # (height, width, channels)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def image_files(folder: str | Path) -> list[tuple[Path, str]]:
    """The images FOLDER/LABEL/FILE, sorted, each with its label. Hidden folders and files are passed over.

    Raises:
        OSError: the folder cannot be read.
        ValueError: there are none.
    """
    arguments.check_path("image_files", "folder", folder)
    folders = [path for path in _seen(Path(folder)) if path.is_dir()]
    found = [(path, label.name) for label in folders for path in _seen(label) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise ValueError(f"{folder}: must hold images as LABEL/FILE, got none")
    return found


def _seen(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing hidden, as editors and macOS leave."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_image(path: str | Path, size: int | None, channels: int) -> Image:
    """An image file of any size, scaled to (size, size, channels).

    Args:
        path: of the file, in a format that Pillow reads.
        size: height and width; None for the file's own.
        channels: 1 for grey, 3 for red, green and blue, 4 with transparency.

    Raises:
        ModuleNotFoundError: without Pillow.
        OSError: the file is missing or cannot be read.
        ValueError: naming the file, when it is no image; other channels.
    """
    arguments.check_path("read_image", "path", path)
    size = None if size is None else arguments.size("read_image", "size", size)
    channels = arguments.integer("read_image", "channels", channels)
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise ValueError(f"read_image: channels must be 1, 3 or 4, got {channels}")
    pillow = _pillow()
    arguments.check_regular(path)
    try:
        with pillow.open(path) as opened:
            image = opened.convert(modes[channels])
            if size is not None:
                image = image.resize((size, size), pillow.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file, not of what it holds
            raise
        raise ValueError(f"{path}: not an image ({error})") from None
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def fit_image(image: npt.NDArray[Any], resize: int, crop: int, resample: str) -> npt.NDArray[Any]:
    """An image (height, width, channels) of uint8 or floats, scaled to `resize` by `resize`, and the middle `crop` by
    `crop` of that, with the same dtype.

    Args:
        resample: "nearest", "bilinear", "bicubic" or "lanczos".

    Raises:
        ModuleNotFoundError: without Pillow, where the image has to be scaled.
    """
    if image.shape[:2] != (resize, resize):
        pillow = _pillow()
        kind = pillow.Resampling[resample.upper()]
        planes = image if image.dtype == np.uint8 else image.astype(np.float32)
        scaled = [
            np.asarray(pillow.fromarray(np.ascontiguousarray(planes[..., i])).resize((resize, resize), kind))
            for i in range(image.shape[2])
        ]
        image = np.stack(scaled, axis=-1).astype(image.dtype)
    first = (resize - crop) // 2
    return image[first : first + crop, first : first + crop]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise ModuleNotFoundError("images: needs the extra: pip install 'dragoman[image]'") from None
    return Image


def read_arrays(path: str | Path) -> tuple[npt.NDArray[Any], list[str]]:
    """The arrays "images" (images, height, width[, channels]) and "labels" (images,) of a `.npz` file; labels as texts.

    Raises:
        OSError: the file is missing.
        ValueError: naming the file and what in it does not fit.
    """
    arguments.check_path("read_arrays", "path", path)
    arguments.check_regular(path)
    import zipfile  # slow to import

    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: images must be a folder with files LABEL/FILE, or a .npz file; this is neither")
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except KeyError as error:
        raise ValueError(f"{path}: must hold the arrays images and labels ({error})") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        raise ValueError(f"{path}: an array is damaged, or holds Python objects instead of numbers or texts") from None
    if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
        expected = "images (images, height, width[, channels]) and labels (images,)"
        raise ValueError(f"{path}: must hold {expected}, got shapes {images.shape} and {labels.shape}")
    return images, [str(label) for label in labels.tolist()]


def iter_images(source: str | Path, size: int, channels: int) -> Iterator[tuple[Any, str]]:
    """Images with labels from a folder (`image_files`) or a `.npz` file (`read_arrays`). Errors as of these."""
    arguments.check_path("iter_images", "source", source)
    if Path(source).is_dir():
        for path, label in image_files(source):
            yield read_image(path, size, channels), label
    else:
        images, labels = read_arrays(source)
        yield from zip(images, labels, strict=True)
