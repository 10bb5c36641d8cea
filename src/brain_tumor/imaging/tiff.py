"""The pages of a TIFF file by their tags: how many there are, and which of them OpenCV would get wrong.

Tags and their meaning: TIFF 6.0 (Adobe, 1992); files beyond 4 GB (BigTIFF): the specification at libtiff.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from brain_tumor.imaging.unreadable import UnreadableImage

_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # type of a value -> how it is packed
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION = 254, 256, 257, 258, 262, 274
_SAMPLES, _PLANAR, _TILE, _EXTRA = 277, 284, 322, 338
_DEFAULTS = {_SUBFILE: (0,), _BITS: (1,), _ORIENTATION: (1,), _SAMPLES: (1,), _PLANAR: (1,), _TILE: (), _EXTRA: ()}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_NO_SLICE = 0b101  # bits of the subfile type: a thumbnail of another page, or its mask
_ASSOCIATED, _UNASSOCIATED = 1, 2  # of an extra sample: an alpha that is or is not multiplied in
_MOST_PAGES, _MOST_TAGS = 4096, 512  # more than any scanner writes; directories that overlap would take hours


@dataclass(frozen=True)
class Page:
    """A picture of the file.

    Attributes:
        directory: its number, from 0; thumbnails and masks have directories, too.
        width, height: in pixels, before it is turned as its orientation says.
        negative: whether OpenCV decodes it as its negative.
        alpha: whether a fourth sample is an alpha that the decoded colours are not multiplied with.
    """

    directory: int
    width: int
    height: int
    negative: bool
    alpha: bool


def is_tiff(data: bytes) -> bool:
    """Whether the content starts as a TIFF file does."""
    return data[:4] in _MAGIC


def tiff_pages(data: bytes) -> list[Page]:
    """The pages that are pictures of their own, at least one.

    Raises:
        UnreadableImage: the directories are damaged, or a page is encoded in a way that OpenCV gets wrong.
    """
    try:
        tags = list(_directories(data))
        # A file that holds nothing but a thumbnail is one of a small picture.
        own = [number for number, each in enumerate(tags) if not each[_SUBFILE][0] & _NO_SLICE] or range(len(tags[:1]))
        pages = [_page(number, tags[number]) for number in own]
    except (struct.error, KeyError, IndexError, OverflowError) as error:
        raise UnreadableImage("not an image, truncated: the directory of the TIFF file is damaged") from error
    if not pages:
        raise UnreadableImage("not an image, truncated: the TIFF file has no page")
    return pages


def _page(number: int, tags: dict[int, tuple[int, ...]]) -> Page:
    bits, samples, photometric = tags[_BITS], tags[_SAMPLES][0], tags[_PHOTOMETRIC][0]
    depth, planar, extra = bits[0], tags[_PLANAR][0], tags[_EXTRA]
    grey = samples == 1 and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    colours = photometric == _RGB and samples in (3, 4)
    if len(set(bits)) > 1:
        raise _refused(f"{', '.join(map(str, bits))} bits a sample")
    # Up to 8 bits libtiff turns everything into RGB by itself, above OpenCV takes the samples as they are: it neither
    # inverts white-is-zero nor joins planes, and whatever three samples mean, it takes them for colours.
    if depth > 8 and not grey and not (colours and planar == 1):
        raise _refused(f"{samples} x {depth} bits (photometric {photometric}, planar {planar})")
    if depth <= 8 and tags[_TILE] and tags[_ORIENTATION] != (1,):
        raise _refused("tiles that are turned, each of which it turns by itself")
    if samples == 2 and extra != (_ASSOCIATED,):
        raise _refused("grey with transparency, which it drops")
    return Page(
        directory=number,
        width=tags[_WIDTH][0],
        height=tags[_HEIGHT][0],
        negative=depth > 8 and grey and photometric == _WHITE_IS_ZERO,
        # An alpha without a declaration is one to OpenCV's own writer; libtiff multiplies in what is declared.
        alpha=colours and samples == 4 and extra != (_ASSOCIATED,) and not (depth == 8 and extra == (_UNASSOCIATED,)),
    )


def _refused(got: str) -> UnreadableImage:
    return UnreadableImage(
        f"expected a TIFF page that OpenCV reads rightly, got {got}: save it as grey of 8 or 16 bits"
    )


def _directories(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags of each directory that matter here -> their values."""
    order, big = _MAGIC[data[:4]]
    count, offset, inline = ("Q", "Q", 8) if big else ("H", "I", 4)
    entry = struct.Struct(f"{order}HH{offset}{inline}s")

    def number(kind: str, place: int) -> int:
        return struct.unpack_from(order + kind, data, place)[0]

    seen: set[int] = set()
    place = number(offset, 8 if big else 4)
    while place:
        if place in seen or len(seen) == _MOST_PAGES:
            raise UnreadableImage(f"expected at most {_MOST_PAGES} pages in a TIFF file, got more: save each as a file")
        seen.add(place)
        start = place + struct.calcsize(order + count)
        if (entries := number(count, place)) > _MOST_TAGS:
            raise IndexError(entries)
        end = start + entries * entry.size
        tags = dict(_DEFAULTS)
        for tag, kind, values, raw in entry.iter_unpack(data[start:end]):
            if tag in (*_DEFAULTS, _WIDTH, _HEIGHT, _PHOTOMETRIC) and kind in _NUMBERS and 0 < values <= 32:
                packed = struct.Struct(f"{order}{values}{_NUMBERS[kind]}")
                where = (raw,) if packed.size <= inline else (data, struct.unpack(order + offset, raw)[0])
                tags[tag] = packed.unpack_from(*where)
        yield tags
        place = number(offset, end)
