"""Helpers for tests of findings."""

from deeprftv2_plugin.preflight.findings import Finding, Mark


def texts(findings, mark: Mark) -> list[str]:
    """Return the texts of the findings with a mark."""
    return [finding.text for finding in findings if finding.mark is mark]


def errors(findings: list[Finding]) -> list[str]:
    return texts(findings, Mark.ERROR)


def warnings(findings: list[Finding]) -> list[str]:
    return texts(findings, Mark.WARNING)
