"""What data sets call the classes and the parts of the work, in folders, files and lists."""

import re
import unicodedata

from training.data import CLASSES

_OTHER_NAMES = {
    "basophil": "ba bas baso bsf basofil basofilo basofili bazofil",
    "eosinophil": "eo eos eosi eosino eosinofil eosinofilo eosinofili eozynofil eozinofil",
    "lymphocyte": "ly lym lymp lymph lympho lyt lymfocyt lymphozyt linfocito linfociti limfocyt limfocyty "
    "lenfosit",
    "monocyte": "mo mon mono monozyt monocito monociti monocyt monocyty monosit",
    "neutrophil": "ne neu neut neutro sne bne ngs ngb pmn neutrofil segmentedneutrophil bandneutrophil "
    "neutrofilo neutrofili notrofil segmentkernig stabkernig",
    "immature_granulocyte": "ig mmy my pmy meta metamyelocyte myelocyte promyelocyte",
    "erythroblast": "erb ebo nrbc normoblast",
    "platelet": "plt thrombocyte",
}
"""What data sets call the classes, in small letters without accents, blanks and plural."""
_FORMS = {"seg", "segs", "segmented", "band", "bands", "banded", "stab", "stabs", "rod"}
"""Of a neutrophil's nucleus: they stand beside the class or for it."""
_OF_IMAGES = {"segmented", "banded"}
"""Those that an image may be as well: alone they are no class."""
_BESIDE = re.compile(
    r"(train|valid|val|test)(ing|ation|set)?|crop(s|ped)?|images?|imgs?|cells?|wbcs?|large|small|typical|mature"
)
"""Words beside the name of a class that do not change it: parts of the work, sizes."""
_OF_A_PART = re.compile(r"data(set)?|sets?|split|crop(s|ped)?|images?|imgs?|patch(es)?|cells?|wbcs?")
"""Words behind the name of a part of the work."""
_MYELOCYTE = re.compile(r"(?<![A-Za-z])MY(?![A-Za-z])")
"""Beside other words; small, it is nobody's cell."""
_KINDS = re.compile(
    r"granulo[cz]yt(es?|en|y)?|granulocit(o|os|i)|granulosit(ler)?|polynucleaires?|class|type|x"
)
"""Words that say no more than another one beside them; the last of a magnification."""
_SHORT = 4
"""Letters up to which a word among others may mean something else: my class, basic."""
_ENDINGS = ("", "s", "e", "es", "en", "er", "ler")
"""Of the plural, and in other languages."""

_SPLITS = {
    "testa": "test",
    "testb": "test-b",
    "testsimple": "test-simple",
}
"""What data sets call parts of their own, in small letters without blanks."""
_SPLIT = re.compile(r"(train|e?val|test)(ing|id|idation|uation)?(set|data|split|images?|imgs?)?\d?")
_OTHER = {
    *("artifact", "artefact", "blast", "smudge", "unknown", "unclear", "other"),
    *("bad", "blurred", "blurry", "reject", "rejected"),
}
"""Words of a folder below that of a class: what is in it is not of the class."""


def class_of(label: str) -> str | None:
    """Return the class that a data set calls `label`; None where it is no class of ours."""
    words = _words(label)
    if len(words) > 1 and not _MYELOCYTE.search(label):  # "my images"
        words = [w for w in words if w != "my"]
    words = [w for w in words if not _BESIDE.fullmatch(w)]
    telling = [w for w in words if w not in _FORMS]
    whole = _name_of("".join(telling) or ("neutrophil" if set(words) - _OF_IMAGES else ""))
    # "eosinophils (EO)", "neutrophilic granulocyte": each word for itself, if all say the same.
    stems = [word.removesuffix("ic") for word in telling if not _KINDS.fullmatch(word)]
    each = {_name_of(stem) for stem in stems}
    clear = len(each) == 1 and max(map(len, stems)) > _SHORT
    return whole or (each.pop() if clear else None)


def _words(label: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", plain)]


def _name_of(key: str) -> str | None:
    found = (_CLASS_OF.get(key.removesuffix(ending)) for ending in _ENDINGS)
    return next((name for name in found if name), None)


def bare(label: str) -> str:
    """Return the letters and digits of a label alone, small."""
    return re.sub(r"[^a-z0-9]", "", label.lower())


_CLASS_OF = {bare(c.name): c.name for c in CLASSES} | {
    other: name for name, others in _OTHER_NAMES.items() for other in others.split()
}


def split_of(label: str) -> str:
    """Return the part of the work that a data set calls `label`: train, validation, test; empty if none."""
    key = bare(label)
    if key in _SPLITS:
        return _SPLITS[key]
    words = _words(label)
    while words and _OF_A_PART.fullmatch(words[-1]):  # "test cells"
        words.pop()
    # "LISC_train", "Raabin_TestB"; beside the name of a class it may stand anywhere: "train_monocytes".
    if (last := "".join(words[-2:])) in _SPLITS:
        return _SPLITS[last]
    told = (_SPLIT.fullmatch(word) for word in (key, *(words if class_of(label) else words[-1:])))
    parts = {{"val": "validation", "eval": "test"}.get(found[1], found[1]) for found in told if found}
    return parts.pop() if len(parts) == 1 else ""


def is_other(folder: str) -> bool:
    """Return whether a folder below that of a class is called so that what is in it is not of the class."""
    words = [word.removesuffix("s") for word in _words(folder) if not _BESIDE.fullmatch(word)]
    return bool(words) and set(words) <= _OTHER
