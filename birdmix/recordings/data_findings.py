"""Findings: problems of a data set, raised by a run and collected by ``birdmix doctor``."""

from typing import NamedTuple


class Finding(NamedTuple):
    """A problem of a data set.

    Attributes:
        path: Recording; empty for problems of labels or groups.
        problem: Kind of problem, in one word.
        detail: Description, with file and row where they are known.
    """

    path: str
    problem: str
    detail: str


#: List to which readers append findings and then continue; with None the first one is an error.
Findings = list[Finding] | None


def add_finding_or_raise(findings: Findings, finding: Finding, error: str) -> None:
    """Append a finding to the list, or raise it as an error if there is no list.

    Args:
        findings: List of findings, or None.
        finding: The finding to append.
        error: Message of the error.

    Raises:
        ValueError: With ``error``, if ``findings`` is None.
    """
    if findings is None:
        raise ValueError(error)
    findings.append(finding)
