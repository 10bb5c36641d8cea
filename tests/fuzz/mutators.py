"""Mutations that keep an input whole: most changed bytes would only be found by a checksum or a length.

Each function takes an input, a random generator and `change`, which mutates bytes without knowing what they are. What
it cannot take apart, because an earlier mutation broke it, it changes as bytes.
"""

import gzip
import hashlib
import io
import json
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np

Change = Callable[[bytes], bytes]

_INTEGERS = (0, 1, 2, 3, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_FLOATS = (0.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("nan"))
_JSON = (None, True, -1, 0, 3, 1e308, 10**400, "", "x", "é\n", [], [1], [None] * 4, {}, {"a": []})
_TOKENS = (
    *(b'"', b'""', b",", b";", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"  ", b"../"),
    *(b"path", b"patient", b"main/a/1.png", b"nan", b"1e999", b"9" * 30, b"'", b"&a", b"*a", b"<<: *a", b"!!python/x"),
    *(b"- ", b": ", b"? ", b"|\n", b">-\n", b"{", b"}", b"[", b"]", b"# ", b"%YAML 1.1\n", b"---\n", b"...\n"),
    *(
        b"!!set ",
        b"!!float ",
        b"!!timestamp 2001-99-99",
        b"!!binary x",
        b"!!int '",
        b"0x",
        b"0o",
        b".inf",
        b"2001-01-32",
        b"~",
    ),
    *(
        b"--b",
        b"--b--",
        b"Content-Disposition: ",
        b"form-data; ",
        b'name="files"',
        b'filename="',
    ),
    *(b"filename*=UTF-8''%", b"Content-Type: ", b"multipart/form-data", b"; boundary=", b"charset=", b"utf-7"),
    *(
        b"Content-Transfer-Encoding: ",
        b"base64",
        b"?slice=",
        b"all",
        b"explain=",
        b"%00",
        b"\xe2\x80\xae",
        b"\\",
        b"/v1/predict",
        b"/web/..",
        b"a" * 300,
    ),
)


def text(data: bytes, random: Random, change: Change) -> bytes:
    """Words, lines and whole parts of what people and programs write."""
    lines = data.splitlines(keepends=True)
    place = random.randrange(len(data) + 1)
    if random.random() < 0.5 or not lines:
        return data[:place] + random.choice(_TOKENS) + data[place + random.choice((0, 0, 1, 4)) :]
    _rearranged(lines, random, change)
    return b"".join(lines)


def zip_file(data: bytes, random: Random, change: Change) -> bytes:
    """Members that were packed rightly from other names, kinds and contents; or numbers of the headers."""
    if random.random() < 0.5:
        places = [i for i in range(len(data) - 4) if data[i : i + 2] == b"PK" and data[i + 2] < 9]
        return _overwritten(data, random.choice(places) + random.randrange(4, 46), random)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [[info, archive.read(info)] for info in archive.infolist()]
    chosen, kind = random.choice(members), random.randrange(5)
    if kind == 0:
        chosen[0].filename = change(chosen[0].filename.encode()).decode("utf-8", "replace")
    elif kind == 1:
        tops = ("../", "/", "C:/", "a\\", "./", "__MACOSX/", ".", "A/", "a" * 300 + "/", "\x1b", "e\u0301", "\xe9")
        chosen[0].filename = random.choice(tops) + chosen[0].filename
    elif kind == 2:
        chosen[0].external_attr = random.choice((0o120777, 0o060644, 0o010644, 0o040755, 0o100644)) << 16
    elif kind == 3:
        chosen[1] = change(chosen[1]) * random.choice((1, 1, 1, 1000))
    else:
        members.insert(random.randrange(len(members) + 1), [zipfile.ZipInfo(chosen[0].filename), chosen[1]])
    return _zipped([(info, content, info.compress_type) for info, content in members])


def exported(data: bytes, random: Random, change: Change) -> bytes:
    """Other metadata, other arrays, or other bytes, with the SHA-256 of what they are."""
    if random.random() < 0.2:
        return _digested(change(data)[:-64])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = min(info.header_offset for info in archive.infolist())
        entries = {name: archive.read(name) for name in archive.namelist()}
    if random.random() < 0.6:
        entries["metadata.json"] = json.dumps(_other_json(json.loads(entries["metadata.json"]), random)).encode()
    elif random.random() < 0.8:
        with np.load(io.BytesIO(entries["novelty.npz"])) as stored:
            arrays = {name: stored[name] for name in stored.files}
        name = random.choice(list(arrays))
        others = (arrays[name].astype(str), arrays[name][..., None], arrays[name] * np.nan, arrays[name].ravel()[:1])
        arrays[name] = random.choice((*others, np.zeros(0), np.array("x"), arrays[random.choice(list(arrays))]))
        np.savez(stream := io.BytesIO(), **arrays)
        entries["novelty.npz"] = stream.getvalue()
    else:
        name = random.choice(list(entries))
        entries[name] = change(entries[name])
    packed = [(zipfile.ZipInfo(name), content, zipfile.ZIP_STORED) for name, content in entries.items()]
    return _digested(_zipped(packed, data[:start], comment=b"0" * 64)[:-64])


def dicom(data: bytes, random: Random, change: Change) -> bytes:
    """Elements of an explicit little endian file, with the right lengths."""
    place, elements = 132, []
    while place + 8 <= len(data):
        long = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC", b"UR", b"OD", b"OL")
        head = place + (12 if long else 8)
        length = int.from_bytes(data[head - 4 : head] if long else data[place + 6 : head], "little")
        length = min(length, len(data) - head)
        elements.append((data[place : place + 6], long, data[head : head + length]))
        place = head + length
    number = random.randrange(len(elements))
    tag, long, value = elements[number]
    kind = random.randrange(5)
    if kind == 0:
        elements[number] = tag, long, change(value)
    elif kind == 1:
        told = (b"0", b"-1", b"1e400", b"nan", b"\\", b"1\\2\\3", b"", b"\0\0", b"\xff\xff", b"\xff" * 4)
        elements[number] = tag, long, random.choice(told)
    elif kind == 2:
        kinds = (b"US", b"AS", b"CS", b"DA", b"DS", b"FD", b"FL", b"IS", b"LO", b"PN", b"SL", b"SS", b"UI", b"UL")
        elements[number] = tag[:4] + random.choice(kinds), False, value[: 2**16 - 1]
    elif kind == 3:
        del elements[number]
    else:
        elements.insert(random.randrange(len(elements) + 1), elements[number])
    return data[:132] + b"".join(_element(*element) for element in elements)


def packed(data: bytes, random: Random, change: Change) -> bytes:
    """Fields of the header of a NIfTI volume, in a gzip file that is whole if it was one."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.compress(packed(gzip.decompress(data), random, change), 1, mtime=0)
    if random.random() < 0.2:
        return change(data)
    shorts = [*range(40, 56, 2), 70, 72, 252, 254]
    place = random.choice([0, *shorts, *shorts, *range(76, 124, 4), *range(256, 328, 4), 344, *range(4, 540, 8)])
    if place >= 76 and place % 4 == 0 and random.random() < 0.7:
        return data[:place] + struct.pack(random.choice("<>") + "f", random.choice(_FLOATS)) + data[place + 4 :]
    return _overwritten(data, place, random)


def picture(data: bytes, random: Random, change: Change) -> bytes:
    """Chunks of a PNG with the right checksums; numbers of other files."""
    if not data.startswith(b"\x89PNG"):
        place = random.randrange(min(len(data), 600))
        return _overwritten(data, place, random) if random.random() < 0.5 else change(data)
    chunks, place = [], 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        chunks.append(data[place + 4 : end])
        place = end + 4
    number = random.randrange(len(chunks))
    if chunks[number].startswith(b"IDAT") and random.random() < 0.7:
        chunks[number] = b"IDAT" + zlib.compress(change(zlib.decompress(chunks[number][4:])))
    elif random.random() < 0.5:
        chunks[number] = chunks[number][:4] + _overwritten(chunks[number][4:] or b"\0", random.randrange(14), random)
    else:
        _rearranged(chunks, random, change)
    framed = (struct.pack(">I", max(len(c) - 4, 0)) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return data[:8] + b"".join(framed)


def pickles(data: bytes, random: Random, change: Change) -> bytes:
    """Operations of the pickles that a file begins with."""
    stream, operations = io.BytesIO(data), []
    try:
        while True:
            begin = stream.tell()
            places = [place for _, _, place in pickletools.genops(stream)] + [stream.tell()]
            operations += [data[a:b] for a, b in pairwise(places)]
    except ValueError:  # what follows the pickles
        rest = data[begin:]
    number = random.randrange(len(operations))
    if random.random() < 0.4:
        size = random.choice(_INTEGERS)
        made = (b"K" + bytes([size % 256]), b"\x8a\x09" + size.to_bytes(9, "little"))
        numbered = (b"r" + (size % 2**31).to_bytes(4, "little"), b"j" + (size % 2**31).to_bytes(4, "little"))
        plain = (b"N", b"]", b"}", b")", b"(", b"0", b"2", b"t", b"R", b"Q", b"s", b"u", b"b", b"\x81", b"\x94")
        named = (b"cos\nsystem\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"X\2\0\0\0ab")
        operations.insert(number, random.choice((*made, *numbered, *plain, *named)))
    else:
        _rearranged(operations, random, change)
    return b"".join(operations) + (change(rest) if random.random() < 0.2 else rest)


def _rearranged(parts: list[bytes], random: Random, change: Change) -> None:
    """Change, repeat, exchange or drop one of several parts, in place."""
    one, other, kind = random.randrange(len(parts)), random.randrange(len(parts)), random.randrange(4)
    if kind == 0:
        parts[one] = change(parts[one])
    elif kind == 1:
        parts.insert(other, parts[one])
    elif kind == 2:
        parts[one], parts[other] = parts[other], parts[one]
    else:
        del parts[one]


def _overwritten(data: bytes, place: int, random: Random) -> bytes:
    """A number of 1 to 8 bytes replaced."""
    width, value = random.choice((1, 2, 2, 4, 4, 8)), random.choice((*_INTEGERS, random.randrange(2**32)))
    number = (value % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
    return data[:place] + number + data[place + width :]


def _zipped(members: list[tuple[zipfile.ZipInfo, bytes, int]], front: bytes = b"", comment: bytes = b"") -> bytes:
    stream = io.BytesIO(front)
    with zipfile.ZipFile(stream, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name twice is meant
        for info, content, method in members:
            archive.writestr(info, content, method)
        archive.comment = comment
    return stream.getvalue()


def _digested(body: bytes) -> bytes:
    return body + hashlib.sha256(body).hexdigest().encode()


def _other_json(value: object, random: Random) -> object:
    """A JSON value with something in it replaced, removed or added."""
    if isinstance(value, dict | list) and value and random.random() < 0.85:
        value = value.copy()
        place = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        kind = random.random()
        if kind < 0.8:
            value[place] = _other_json(value[place], random)
        elif kind < 0.9:
            del value[place]
        elif isinstance(value, list):
            value.append(value[place])
        else:
            value["more"] = value[place]
        return value
    return random.choice(_JSON)


def _element(tag: bytes, long: bool, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return tag + (b"\0\0" + struct.pack("<I", len(value)) if long else struct.pack("<H", len(value) % 2**16)) + value
