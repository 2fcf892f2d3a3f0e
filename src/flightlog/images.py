"""Images: `flightlog.Image`, and `log_image`, with the file names by which MLflow's pages find them. Needs the extra `images`."""

from __future__ import annotations

import io
import posixpath
import re
import uuid
import warnings
from typing import TYPE_CHECKING, Any

from flightlog.producer.client import Producer
from flightlog.producer.fluent import finish, target
from flightlog.producer.operations import RunOperations
from flightlog.schema.artifact_paths import named_artifact_file
from flightlog.schema.ids import now_ms
from flightlog.schema.names import IMAGES_TAG

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

try:
    import PIL.Image
except ImportError as error:
    raise ImportError('images need Pillow; install it with: pip install "flightlog[images]"') from error

THUMBNAIL = 256
"""The longer side of the small copy, in pixels."""
PIXEL_KINDS = {"b": "bool", "i": "signed integer", "u": "unsigned integer", "f": "floating"}

_KEY = re.compile(r"[a-zA-Z0-9_\-./ ]+")


class Image:
    """An image that was given as a path, a Pillow image, a numpy array or nested lists of pixels; `size` is (width, height).

    Arrays are (height, width) or (height, width, 1, 3 or 4), of integers from 0 to 255, of floats from 0 to 1, or of bools.
    """

    def __init__(self, image: Any) -> None:  # noqa: ANN401 - checked here
        import numpy as np  # noqa: PLC0415 - heavy, and who imports flightlog may never need it

        if isinstance(image, str):
            self.image: PIL.Image.Image = PIL.Image.open(image)
        else:
            self.image = as_pillow(np.array(image) if isinstance(image, list) else image)
        self.size = self.image.size

    def to_list(self) -> list[Any]:
        """Return the pixels, row after row."""
        pixels = self.to_array()
        flat: list[Any] = pixels.reshape(-1, *pixels.shape[2:]).tolist()
        return [tuple(pixel) if isinstance(pixel, list) else pixel for pixel in flat]

    def to_array(self) -> npt.NDArray[Any]:
        """Return the pixels as an array."""
        import numpy as np  # noqa: PLC0415 - as above

        return np.array(self.image)

    def to_pil(self) -> PIL.Image.Image:
        """Return the Pillow image."""
        return self.image

    def save(self, path: str) -> None:
        """Write the image to a file; its name gives the format."""
        self.image.save(path)

    def resize(self, size: tuple[int, int]) -> Image:
        """Return a copy of another (width, height)."""
        return Image(self.image.resize(size))


def as_pillow(image: object) -> PIL.Image.Image:
    """Return any image that can be logged as a Pillow image. Raises `TypeError` for what is none."""
    import numpy as np  # noqa: PLC0415 - as above

    if isinstance(image, Image):
        return image.image
    if isinstance(image, PIL.Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return PIL.Image.fromarray(_pixels(image))
    raise TypeError(f"an image must be a numpy array, a Pillow image or a flightlog.Image, not {type(image).__name__}")


def _pixels(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    import numpy as np  # noqa: PLC0415 - as above

    if array.dtype.kind not in PIXEL_KINDS:
        raise TypeError(f"an image's pixels must be of the type {', '.join(PIXEL_KINDS.values())}, not {array.dtype}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an image must have the shape (height, width) or (height, width, 1, 3 or 4 channels), not {array.shape}")
    if not array.size:
        raise ValueError(f"an image must have pixels; the shape {array.shape} has none")
    grey = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return (_whole(grey) if grey.dtype.kind in "iu" else _scaled(grey)).astype(np.uint8)


def _whole(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.min() < 0 or array.max() > 255:
        raise ValueError(f"integer pixels must lie between 0 and 255, and these between {array.min()} and {array.max()}")
    return array


def _scaled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        warnings.warn(f"float pixels should lie between 0 and 1; these lie between {low} and {high} and are rescaled", stacklevel=6)
        array = (array - low) / (high - low)
    return array * 255


def log_image(
    image: Any,  # noqa: ANN401 - checked here
    artifact_file: str | None = None,
    key: str | None = None,
    step: int | None = None,
    timestamp: int | None = None,
    synchronous: bool | None = False,
) -> None:
    """Log an image to the active run: as one file, or as the image of a key at a step (0) and time (ms since the epoch; now).

    An image with a key is kept as PNG, with a small copy beside it as WebP. `image` is a numpy array, a Pillow image or a
    `flightlog.Image`. It is encoded before the call returns.
    """
    producer, run_id = target(None)
    finish(record_image(producer, run_id, image, artifact_file, key, step, timestamp), synchronous)


def record_image(
    producer: Producer,
    run_id: str,
    image: object,
    artifact_file: str | None,
    key: str | None,
    step: int | None,
    timestamp: int | None,
) -> RunOperations:
    """Record an image as `log_image` does. Raises `TypeError` or `ValueError` before anything is written."""
    if artifact_file is not None and (key, step, timestamp) != (None, None, None):
        raise TypeError("an image has either an artifact_file or a key, to which a step and a timestamp may belong")
    if artifact_file is None and key is None:
        raise TypeError("an image needs an artifact_file, or a key under which it is shown step by step")
    picture = as_pillow(image)
    if artifact_file is not None:
        return producer.log_bytes(run_id, encoded(picture, artifact_file), artifact_file)
    name = _file_name(str(key), step or 0, timestamp or now_ms())
    files = image_files(picture, f"images/{name}", f"images/{name}+compressed")
    operations = [producer.log_bytes(run_id, content, path) for path, content in files.items()]
    return sum(operations, producer.set_tag(run_id, IMAGES_TAG, "True"))


def _file_name(key: str, step: int, timestamp: int) -> str:
    if not _KEY.fullmatch(key):
        rule = "letters and digits of ASCII, underscores, dashes, dots, spaces and slashes"
        raise ValueError(f"the key of an image may hold {rule}, and {key!r} holds something else")
    return f"{key.replace('/', '~')}+step+{step}+timestamp+{timestamp}+{uuid.uuid4()}"


def image_files(image: PIL.Image.Image, name: str, small_name: str) -> dict[str, bytes]:
    """Return the two files that are kept of an image: itself as PNG, and a small copy as WebP."""
    paths = f"{name}.png", f"{small_name}.webp"
    return {path: encoded(picture, path) for path, picture in zip(paths, (image, _thumbnail(image)), strict=True)}


def _thumbnail(image: PIL.Image.Image) -> PIL.Image.Image:
    width, height = image.size
    scale = THUMBNAIL / max(width, height)
    return image.resize((max(int(width * scale), 1), max(int(height * scale), 1)))


def encoded(image: PIL.Image.Image, artifact_file: str) -> bytes:
    """Return an image as the bytes of a file of that name. Raises `ValueError` for an extension that Pillow does not know."""
    extension = posixpath.splitext(named_artifact_file(artifact_file))[1].lower()
    format_name = PIL.Image.registered_extensions().get(extension)
    if format_name is None:
        raise ValueError(f"unknown file extension {extension!r} of the image {artifact_file!r}; use one such as .png, .jpeg or .webp")
    buffer = io.BytesIO()
    image.save(buffer, format=format_name)
    return buffer.getvalue()
