"""Names that are the same to a person and not to a computer."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable


def spelled_as(paths: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each path as it is spelled in `known`, or unchanged if it is not there.

    Systems write the same letter with an accent as one character or as two (Unicode Standard Annex 15).

    Example:
        >>> spelled_as(["caf\\u00e9.png", "other.png"], ["cafe\\u0301.png"]) == ["cafe\\u0301.png", "other.png"]
        True
    """
    spelling = {}
    for path in known:
        spelling.setdefault(unicodedata.normalize("NFC", path), path)
    exact = set(known)
    return [path if path in exact else spelling.get(unicodedata.normalize("NFC", path), path) for path in paths]


def plain(name: str) -> str:
    """What is left of the name of a class or a patient without the differences that nobody means.

    Those are capital letters, the characters that make up an accent, what cannot be seen, and white space, hyphens and
    underscores, except between digits.

    Example:
        >>> plain("No_Tumor "), plain("P-12") == plain("p 12"), plain("grade 1-2"), plain("T1C+")
        ('notumor', True, 'grade1-2', 't1c+')
    """
    letters = unicodedata.normalize("NFKC", name.casefold())
    marked = "".join("-" if c.isspace() or c == "_" or unicodedata.category(c) == "Pd" else c for c in letters)
    visible = "".join(c for c in marked if unicodedata.category(c)[0] != "C")
    return re.sub(r"(?<!\d)-+|-+(?!\d)", "", visible)


def alike(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """The names that have the same key as another one: sets of them, each sorted and in quotes, to be shown.

    Names that look the same are shown by their characters, in double quotes, as YAML reads them.

    Example:
        >>> alike(["Tumor", "tumor", "none", "\\u00e9", "e\\u0301"], lambda n: unicodedata.normalize("NFC", n.lower()))
        [['"e\\\\u0301"', '"\\\\xe9"'], ["'Tumor'", "'tumor'"]]
    """
    sets = defaultdict(list)
    for name in sorted(set(names)):
        sets[key(name)].append(name)
    shown = []
    for members in sets.values():
        if len(members) > 1:
            visible = len({unicodedata.normalize("NFKC", name) for name in members}) == len(members)
            shown.append([repr(name) if visible else f'"{ascii(name)[1:-1]}"' for name in members])
    return sorted(shown)
