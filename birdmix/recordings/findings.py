"""What is wrong with a data set, finding by finding."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        path: Recording; empty where it is about labels or groups.
        problem: What kind of thing it is, in a word.
        detail: What exactly, with file and row where there are some.
    """

    path: str
    problem: str
    detail: str


#: Where readers put what they find, to go on without it; with None the first of it is an error.
Findings = list[Finding] | None


def tell(findings: Findings, finding: Finding, error: str) -> None:
    """Put a finding where it is collected, or raise it.

    Raises:
        ValueError: With the error's words, if nobody collects.
    """
    if findings is None:
        raise ValueError(error)
    findings.append(finding)
