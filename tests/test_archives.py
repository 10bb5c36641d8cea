"""Archives that mean harm, or that not every program reads: each is really built, and refused in one line or read."""

import io
import os
import stat
import struct
import warnings
import zipfile
import zlib

import pytest

from brain_tumor.errors import PipelineError
from brain_tumor.source.archive import unpack

SET = {"a/1.jpg": b"one", "a/2.jpg": b"two", "b/1.png": b"three" * 40}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED, **modes: int) -> bytes:
    """Members by name; `modes`: of Unix, by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.filename, info.create_system = name, 3
            info.external_attr = modes.get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data, method)
    return buffer.getvalue()


def local(name: bytes, data: bytes, **lies: int) -> bytes:
    """A stored member as the format has it (APPNOTE 4.3.7); `lies`: other values of crc and size."""
    crc, size = lies.get("crc", zlib.crc32(data)), lies.get("size", len(data))
    return struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, crc, size, size, len(name), 0) + name + data


def listed(name: bytes, data: bytes, offset: int, extra: bytes = b"", **lies: int) -> bytes:
    """The entry of a stored member in the directory (4.3.12)."""
    crc, size = lies.get("crc", zlib.crc32(data)), lies.get("size", len(data))
    numbers = (45, 45, 0, 0, 0, 33, crc, size, size, len(name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\1\2", *numbers) + name + extra


def ended(members: bytes, directory: bytes, count: int, middle: bytes = b"", size: int | None = None) -> bytes:
    """A whole archive (4.3.16); `middle` comes between the directory and its end."""
    told = len(directory) if size is None else size
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, told, len(members), 0)
    return members + directory + middle + end


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks the bytes of an archive: name -> content."""

    def unpacking(data: bytes, **limits: float) -> dict[str, bytes]:
        (tmp_path / "set.zip").write_bytes(data)
        target = tmp_path / "inside" / "target"
        target.mkdir(parents=True)
        unpack(tmp_path / "set.zip", target, **limits)
        return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}

    return unpacking


@pytest.fixture
def complaint(unpacked, tmp_path):
    """What is said of an archive that is refused, in one line; nothing of it may be anywhere."""

    def refused(data: bytes, **limits: float) -> str:
        with pytest.raises(PipelineError) as caught:
            unpacked(data, **limits)
        text = str(caught.value)
        assert text.isprintable() and str(tmp_path / "set.zip") in text and len(text) < 400 + len(str(tmp_path))
        files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
        assert files == [tmp_path / "set.zip"]
        return text

    return refused


def test_the_builders_here_make_archives_that_are_read(unpacked):
    one, two = local(b"a/1.jpg", b"one"), local(b"b/2.jpg", b"two")
    directory = listed(b"a/1.jpg", b"one", 0) + listed(b"b/2.jpg", b"two", len(one))
    assert unpacked(ended(one + two, directory, 2)) == {"a/1.jpg": b"one", "b/2.jpg": b"two"}


# --- names


@pytest.mark.parametrize(
    "name",
    [
        *("../1.jpg", "a/../../1.jpg", "a/..", "..", "/1.jpg", "//host/share/1.jpg", "///1.jpg"),
        *("C:1.jpg", "c:/1.jpg", "C:\\1.jpg", "\\1.jpg", "\\\\host\\share\\1.jpg", "a\\..\\..\\1.jpg", "..\\1.jpg"),
        *("", ".", "./"),
    ],
)
def test_no_name_leads_out_of_the_folder(complaint, name):
    assert "do not trust" in complaint(zipped(SET | {name: b"harm"}))


@pytest.mark.parametrize("name", ["a/\n.jpg", "a/\r.jpg", "a/\x1b[2J.jpg", "a/\x7f.jpg", "\x07/1.jpg", "a/\x9b.jpg"])
def test_names_with_control_characters_are_refused_and_not_printed(complaint, name):
    assert f"expected printable names, found {name!r}" in complaint(zipped(SET | {name: b"x"}))


@pytest.mark.parametrize("name", ["a" * 256, "a/" + "é" * 128, "x" * 250 + ".jpegs", "/".join(["a"] * 600)])
def test_names_that_no_system_takes_are_refused_by_their_length(complaint, name):
    assert f"found '{name[:40]}...' of {len(name.encode())}: shorten it" in complaint(zipped(SET | {name: b"x"}))


def test_names_of_the_longest_length_are_unpacked(unpacked):
    content = SET | {"a/" + "x" * 251 + ".jpg": b"x", "/".join(["d" * 9] * 99) + "/e": b"deep"}
    assert unpacked(zipped(content)) == content


@pytest.mark.skipif(os.name == "nt", reason="Windows reserves these names")
def test_names_that_windows_reserves_are_names_here(unpacked):
    content = SET | {f"a/{name}": name.encode() for name in ("CON", "aux.jpg", "nul.png", "COM1.jpg", "end.", "end ")}
    assert unpacked(zipped(content)) == content


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/B.jpg", "a/b.JPG"),
        ("a/b.jpg", "A/b.jpg"),
        ("a/\xe9.jpg", "a/e\u0301.jpg"),
        ("\xe9/1.jpg", "e\u0301/1.jpg"),
        ("a/\xc9.jpg", "a/e\u0301.jpg"),
    ],
    ids=["capitals", "capitals of a folder", "accents", "accents of a folder", "both"],
)
@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_names_that_are_one_on_another_system_are_refused(complaint, tmp_path, one, other, packed):
    """There the second would replace the first, whichever label that had."""
    content = SET | {one: b"first", other: b"second"}
    said = f"found {min(one, other)!a} and {max(one, other)!a}: rename one"
    if packed:
        assert said in complaint(zipped(content))
        return
    for name, data in content.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    if len([path for path in (tmp_path / "set").rglob("*") if path.is_file()]) < len(content):
        pytest.skip("this file system takes the two names for one")
    (tmp_path / "target").mkdir()
    with pytest.raises(PipelineError) as caught:
        unpack(tmp_path / "set", tmp_path / "target")
    assert said in str(caught.value) and not any((tmp_path / "target").iterdir())


def test_names_that_only_look_alike_are_two(unpacked):
    content = SET | {"a/1.JPEG": b"x", "A/3.jpg": b"y", "a/\u0430.jpg": b"cyrillic", "a/a.jpg": b"latin"}
    content |= {"a/stra\xdfe.jpg": b"1", "a/strasse.jpg": b"2"}
    assert unpacked(zipped(content)) == content


@pytest.mark.parametrize("again", ["a/1.jpg", "a/./1.jpg", "a//1.jpg", "a", "a/1.jpg/x"])
def test_no_member_replaces_another(complaint, again):
    whole = io.BytesIO(zipped(SET))
    with zipfile.ZipFile(whole, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(again, b"y")
    assert "do not trust" in complaint(whole.getvalue())


# --- kinds


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_only_files_and_folders_are_unpacked(complaint, kind):
    text = complaint(zipped(SET | {"a/x": b"/etc/passwd"}, **{"a/x": kind | 0o777}))
    assert "'a/x' is a link or a device" in text


def test_a_link_in_a_folder_is_refused_and_a_second_name_of_a_file_is_a_file(tmp_path):
    """A hard link is a file like any other: its content is that of this disk, which the user has named."""
    for name, data in SET.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    os.link(tmp_path / "set/a/1.jpg", tmp_path / "set/a/3.jpg")
    (tmp_path / "target").mkdir()
    unpack(tmp_path / "set", tmp_path / "target")
    assert (tmp_path / "target/a/3.jpg").read_bytes() == SET["a/1.jpg"]
    assert (tmp_path / "target/a/3.jpg").stat().st_nlink == 1
    os.symlink("/etc/passwd", tmp_path / "set/a/4.jpg")
    (tmp_path / "other").mkdir()
    with pytest.raises(PipelineError, match=r"'a/4\.jpg' is a link"):
        unpack(tmp_path / "set", tmp_path / "other")
    assert not any((tmp_path / "other").iterdir())


def test_modes_of_an_archive_do_not_count(unpacked, tmp_path):
    assert unpacked(zipped(SET, **{"a/1.jpg": stat.S_IFREG | 0o7777})) == SET
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "inside/target/a/1.jpg").stat().st_mode) == 0o666 & ~mask


# --- sizes


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "bytes for an archive of its size"),
        ({"max_ratio": 1e9, "max_bytes": 4_999_999}, "at most 4999999 bytes"),
        ({"max_ratio": 1e9, "max_files": 3}, "at most 3 files"),
    ],
    ids=["ratio", "size", "number"],
)
def test_a_bomb_is_refused(complaint, limits, said):
    bomb = zipped(SET | {"a/0.jpg": bytes(5_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    assert said in complaint(bomb, **limits)


def test_a_bomb_in_an_archive_in_an_archive_stays_packed(unpacked):
    """Nothing is unpacked twice: 42.zip is 42 kB and stays so."""
    inner = zipped({"0": bytes(5_000_000)}, zipfile.ZIP_DEFLATED)
    assert unpacked(zipped(SET | {"a/x.zip": inner})) == SET | {"a/x.zip": inner}


def test_members_that_share_bytes_are_refused(complaint):
    """Fifield, "A better zip bomb" (WOOT 2019): the header of a member is quoted in the content of the one before."""
    inner = local(b"b/2.jpg", bytes(1000))
    content = inner  # of the first member: the whole second one
    outer = local(b"a/1.jpg", content)
    start = len(outer) - len(inner)
    directory = listed(b"a/1.jpg", content, 0) + listed(b"b/2.jpg", bytes(1000), start)
    quoted = ended(outer, directory, 2)
    with zipfile.ZipFile(io.BytesIO(quoted)) as archive:  # each member by itself is whole
        assert [info.file_size for info in archive.infolist()] == [len(content), 1000]
    assert "'a/1.jpg' overlaps another: do not trust" in complaint(quoted)


def test_a_member_listed_under_two_names_is_refused(complaint):
    one = local(b"a/1.jpg", b"one")
    directory = listed(b"a/1.jpg", b"one", 0) + listed(b"b/2.jpg", b"one", 0)
    assert "overlaps another" in complaint(ended(one, directory, 2))


# --- Zip64


def zip64(size: int, told: int, count: int = 2) -> bytes:
    """Two members, the sizes of the second in a Zip64 field that says `told`; the end in Zip64 as well (4.3.14)."""
    data = b"x" * size
    one, two = local(b"a/1.jpg", b"one"), local(b"b/2.jpg", data)
    extra = struct.pack("<2H2Q", 1, 16, told, told)
    directory = listed(b"a/1.jpg", b"one", 0) + listed(b"b/2.jpg", data, len(one), extra, size=2**32 - 1)
    members = one + two
    place = len(members) + len(directory)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), len(members))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)
    return ended(members, directory, 2**16 - 1, end + locator, 2**32 - 1)


def test_zip64_is_read(unpacked, tmp_path):
    assert unpacked(zip64(100, 100)) == {"a/1.jpg": b"one", "b/2.jpg": b"x" * 100}


def test_zip64_of_python_is_read(unpacked):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in SET.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert unpacked(buffer.getvalue()) == SET


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (99, "cannot be read"),
        (101, "cannot be read"),
        (10**6, "bytes for an archive of its size"),
        (2**40, "at most"),
        (2**64 - 1, "at most"),
    ],
)
def test_a_zip64_field_that_lies_is_refused(complaint, told, said):
    assert said in complaint(zip64(100, told))


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [(b"PK\6\6", 24, 2**63), (b"PK\6\6", 40, 2**63), (b"PK\6\6", 48, 2**62), (b"PK\6\7", 8, 3)],
    ids=["members", "size", "place", "end"],
)
def test_a_zip64_end_that_lies_is_refused_or_does_not_matter(complaint, unpacked, signature, offset, value):
    data = bytearray(zip64(100, 100))
    struct.pack_into("<Q", data, data.index(signature) + offset, value)
    if offset in (24, 8):  # how many members there are, and where this end is, which Python finds otherwise
        assert unpacked(bytes(data)) == {"a/1.jpg": b"one", "b/2.jpg": b"x" * 100}
    else:
        assert "cannot be read" in complaint(bytes(data))


def test_a_zip64_field_that_is_cut_is_refused(complaint):
    data = zip64(100, 100)
    extra = data.index(struct.pack("<2H", 1, 16), data.index(b"PK\1\2"))
    assert "cannot be read" in complaint(data[: extra + 2] + struct.pack("<H", 8) + data[extra + 4 :])


# --- damage


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_changed_byte_of_a_content_is_found(complaint, method):
    whole = zipped(SET | {"c/1.jpg": bytes(range(256)) * 8}, method)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        last = archive.infolist()[-1]
        place = last.header_offset + 30 + len("c/1.jpg") + last.compress_size // 2
    assert "cannot be read" in complaint(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def test_a_wrong_checksum_is_refused(complaint):
    one = local(b"a/1.jpg", b"one", crc=1)
    assert "Bad CRC-32" in complaint(ended(one, listed(b"a/1.jpg", b"one", 0, crc=1), 1))


def test_half_an_archive_is_refused_wherever_it_ends(tmp_path):
    whole = zipped(SET, zipfile.ZIP_DEFLATED)
    (tmp_path / "target").mkdir()
    for end in range(len(whole)):
        (tmp_path / "set.zip").write_bytes(whole[:end])
        with pytest.raises(PipelineError, match="expected a whole zip archive"):
            unpack(tmp_path / "set.zip", tmp_path / "target")
        assert not any((tmp_path / "target").iterdir())


def test_a_name_in_the_directory_is_that_of_the_member(complaint):
    """Else one program would show other names than another unpacks; what the error quotes is no control character."""
    one = local(b"\x1b[2J\n1", b"one")
    text = complaint(ended(one, listed(b"a/1.jpg", b"one", 0), 1))
    assert "cannot be read" in text and "\x1b" not in text


def test_encrypted_members_are_refused(complaint):
    whole = bytearray(zipped(SET))
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        whole[whole.index(signature) + offset] |= 1
    assert "'a/1.jpg' is encrypted: unpack it" in complaint(bytes(whole))
