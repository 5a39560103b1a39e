"""Text that looks like a person's data. Kinds are counted; what was found is never kept or shown."""

import re

_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_KINDS = {
    "date": re.compile(
        r"\b(?:\d{1,2}[/-]\d{1,2}[/-](?:\d{4}|\d{2})|(?:19|20)\d{2}[/-]\d{1,2}[/-]\d{1,2})\b"
        rf"|\b{_MONTHS}\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}}\b"
        rf"|\b\d{{1,2}} {_MONTHS}\.?,? (?:19|20)\d{{2}}\b",
        re.IGNORECASE,
    ),
    "record_number": re.compile(
        r"\b(?:MRN|accession|record (?:no|number))\W{0,3}\w*\d|(?<![\d.])\d{6,}(?!\.?\d)", re.I
    ),
    "name_after_title": re.compile(r"\b(?:Dr|Mr|Mrs|Ms|DR|MR|MRS|MS)\.? (?!X{2,}|_)[A-Z][A-Za-z'-]+"),
    "telephone": re.compile(r"(?<!\d)(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?!\d)"),
    "e_mail": re.compile(r"[\w.+-]+@\w[\w-]*\.\w"),
}
KINDS = tuple(_KINDS)


def kinds(text: str) -> list[str]:
    """The kinds of personal data that a report seems to hold."""
    return [kind for kind, pattern in _KINDS.items() if pattern.search(text)]
