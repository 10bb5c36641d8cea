"""From the bytes of an image file to grey images."""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import cv2
import numpy as np

from brain_tumor import MAX_PIXELS
from brain_tumor.imaging.tiff import is_tiff, tiff_pages
from brain_tumor.imaging.unreadable import UnreadableImage

__all__ = ["IMAGE_SUFFIXES", "UnreadableImage", "decode", "decode_pages"]

IMAGE_SUFFIXES = (
    *(".bmp", ".dib", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
"""Of the files that `decode` reads, in lower case."""

_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
_WHOLE = cv2.IMREAD_COLOR | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH  # with its alpha, turned as the file says
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"


def decode(data: bytes) -> np.ndarray:
    """Decode an image file to (height, width) uint8 grey; 16-bit files are scaled by the range of their values.

    Args:
        data: content of an image file in any format that OpenCV reads; colour becomes grey, and what is transparent
            black, see `decode_pages`.

    Raises:
        UnreadableImage: the bytes are empty, no image, truncated, several images, or an image of a senseless size.
    """
    return decode_pages(data, _the_only)[0][1]


def decode_pages(
    data: bytes, wanted: Callable[[int], Sequence[int]], max_pixels: int = MAX_PIXELS
) -> list[tuple[int | None, np.ndarray]]:
    """Decode pages of a TIFF file or frames of an animation (GIF, PNG, WebP, AVIF); any other file is one page.

    What is transparent is laid over black, so that what a file hides, such as a skull, stays hidden.

    Args:
        data: content of an image file in any format that OpenCV reads.
        wanted: number of pages -> ascending numbers, from 0, of those to decode.
        max_pixels: largest number of pixels that several pages may have together.

    Returns:
        For each wanted page its number (None if it is the only one) and (height, width) uint8 grey.

    Raises:
        UnreadableImage: the file is damaged, too large, or encoded in a way that OpenCV gets wrong.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    data = _up_to_the_end(data)
    if is_tiff(data):
        count, pages = _tiff_pages(data, wanted, max_pixels)
    elif _may_move(data):
        count, pages = _frames(data, wanted, max_pixels)
    else:
        count, pages = 1, {number: _still(data) for number in wanted(1)}
    return [(number if count > 1 else None, _in_8_bits(grey)) for number, grey in pages.items()]


def _the_only(count: int) -> list[int]:
    if count > 1:
        raise UnreadableImage(f"expected one picture, got {count} pages or frames: save the right one as a file")
    return [0]


def _still(data: bytes) -> np.ndarray:
    grey = _sized(_called(cv2.imdecode, data, _GREY))
    if data.startswith(_JPEG):  # has no transparency
        return grey
    seen = _over_black(grey, _called(cv2.imdecode, data, _WHOLE), _transparent_colour(data))
    if grey.any() and not seen.any():
        raise UnreadableImage(
            "expected a picture to be seen, got one that is transparent: save it without transparency"
        )
    return seen


def _tiff_pages(data: bytes, wanted, max_pixels: int) -> tuple[int, dict[int, np.ndarray]]:
    """Number of pages, and the wanted ones."""
    pages = tiff_pages(data)
    if len(pages) > 1 and sum(page.width * page.height for page in pages) > max_pixels:
        raise UnreadableImage(f"expected at most {max_pixels:,} pixels, got more in {len(pages)} pages: split the file")
    numbers = wanted(len(pages))
    first, last = pages[numbers[0]].directory, pages[numbers[-1]].directory

    def decoded(flags: int) -> Sequence[np.ndarray]:
        if last == 0:
            return [_called(cv2.imdecode, data, flags)]
        found = _called(cv2.imdecodemulti, data, flags, range=(first, last + 1))
        if len(found) <= last - first:
            raise UnreadableImage("not an image, truncated: a page of the TIFF file is damaged")
        return found

    greys, chosen = decoded(_GREY), {}
    whole = decoded(_WHOLE) if any(pages[number].alpha for number in numbers) else greys
    for number in numbers:
        page, place = pages[number], pages[number].directory - first
        grey = _sized(greys[place])
        chosen[number] = np.iinfo(grey.dtype).max - grey if page.negative else grey
        if page.alpha:
            chosen[number] = _over_black(grey, whole[place])
    return len(pages), chosen


def _frames(data: bytes, wanted, max_pixels: int) -> tuple[int, dict[int, np.ndarray]]:
    """Number of frames of an animation, and the wanted ones."""
    most = max(max_pixels // _sized(_called(cv2.imdecode, data, _GREY)).size, 1)
    frames = _called(cv2.imdecodeanimation, data, count=most + 1).frames
    if len(frames) > most:
        raise UnreadableImage(f"expected at most {max_pixels:,} pixels, got more in all frames: save the right ones")
    if len(frames) < 2:
        return 1, {number: _still(data) for number in wanted(1)}
    chosen = {number: frames[number] for number in wanted(len(frames))}
    codes = {3: cv2.COLOR_BGR2GRAY, 4: cv2.COLOR_BGRA2GRAY}
    greys = {n: frame if frame.ndim == 2 else cv2.cvtColor(frame, codes[frame.shape[2]]) for n, frame in chosen.items()}
    return len(frames), {number: _over_black(_sized(grey), chosen[number]) for number, grey in greys.items()}


def _called(function: Callable, data: bytes, *arguments, **options):
    """What a function of OpenCV makes of the content."""
    try:
        found = function(np.frombuffer(data, np.uint8), *arguments, **options)
    except cv2.error as error:
        raise UnreadableImage(f"the decoder refused it: {error.err or 'unknown reason'}") from error
    done, image = found if isinstance(found, tuple) else (found is not None, found)
    if not done:
        raise UnreadableImage("not an image, truncated, or in a format that OpenCV does not read")
    return image


def _sized(grey: np.ndarray) -> np.ndarray:
    if min(grey.shape) < 2 or grey.size > MAX_PIXELS:
        raise UnreadableImage(f"expected 2 pixels or more a side and at most {MAX_PIXELS:,}, got {grey.shape[::-1]}")
    if grey.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(f"expected 8 or 16 bits a pixel, got {grey.dtype}")
    return grey


def _in_8_bits(grey: np.ndarray) -> np.ndarray:
    if grey.dtype == np.uint8:
        return grey
    low, high = int(grey.min()), int(grey.max())
    return ((grey.astype(np.uint32) - low) * 255 // max(high - low, 1)).astype(np.uint8)


def _over_black(grey: np.ndarray, whole: np.ndarray, key: tuple[int, ...] | None = None) -> np.ndarray:
    """Grey pixels as seen over black, by the alpha of the `whole` picture or by its transparent colour."""
    highest = np.iinfo(grey.dtype).max
    if whole.ndim == 3 and whole.shape[2] == 4:
        alpha = whole[..., 3]
    elif key is not None:
        alpha = np.where((np.atleast_3d(whole) == key).all(axis=2), 0, highest)
    else:
        return grey
    if alpha.shape != grey.shape:
        raise UnreadableImage(
            f"expected a transparency of {grey.shape}, got {alpha.shape}: save it without transparency"
        )
    alpha = alpha.astype(np.uint32)
    return ((grey * alpha + highest // 2) // highest).astype(grey.dtype)  # the same grey where alpha is the highest


def _may_move(data: bytes) -> bool:
    """Whether the content may be an animation, by its header."""
    webp = data[8:16] == b"WEBPVP8X" and bool(data[20:21]) and bool(data[20] & 2)
    png = any(kind == b"acTL" for kind, *_ in _before_the_pixels(data))
    return webp or png or data.startswith(b"GIF8") or data[4:12] == b"ftypavis"


def _transparent_colour(data: bytes) -> tuple[int, ...] | None:
    """Of a PNG without alpha: the grey, or the blue, green and red, that its chunk tRNS says is transparent."""
    chunks = {kind: content for kind, _, content in _before_the_pixels(data)}
    header, transparent = chunks.get(b"IHDR", b""), chunks.get(b"tRNS", b"")
    if len(header) < 10 or len(transparent) != {0: 2, 2: 6}.get(header[9]):
        return None
    depth = header[8]
    values = np.frombuffer(transparent, ">u2")[::-1].astype(int) & (2**depth - 1)
    return tuple(values * 255 // (2**depth - 1) if depth < 8 else values)


def _up_to_the_end(data: bytes) -> bytes:
    """A PNG without what follows its last chunk; any other file as it is.

    OpenCV takes memory for what a chunk claims, up to 4 GB, before it reads it, and may read on behind the end.
    """
    end = len(_PNG)
    for _, length, content in _png_chunks(data):
        if len(content) < length:
            raise UnreadableImage("not an image, truncated: a chunk of the PNG file is longer than the file")
        end += 12 + length
    return data[:end] if data.startswith(_PNG) else data


def _before_the_pixels(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    return takewhile(lambda chunk: chunk[0] != b"IDAT", _png_chunks(data))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Kind, length and content, which may be cut, of each chunk of a PNG; nothing of any other file."""
    place = len(_PNG)
    while data.startswith(_PNG) and place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        yield kind, length, data[place + 8 : place + 8 + length]
        if kind == b"IEND":
            return
        place += 12 + length
