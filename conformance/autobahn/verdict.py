"""Compares what the suite observed with the committed expected result.

The suite exits with status 0 whatever happened, so the verdict is made here,
from its `index.json`: a pure function of the expected cases and the observed
ones. A case that is missing, or that nobody expected, is a difference too.
"""

import re
from dataclasses import dataclass

GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression, payloads",
    "13": "compression, parameters",
}
NOT_RUN = ("not run", "not run")
NOT_EXPECTED = ("no such case", "no such case")


@dataclass(frozen=True)
class Difference:
    """A case whose (behavior, behaviorClose) is not the expected pair."""

    case: str
    observed: tuple
    expected: tuple


def select(expected_cases, patterns):
    """The expected cases that the suite's patterns (`1.*`, `*`) name."""
    if "*" in patterns:
        return dict(expected_cases)
    groups = {pattern.removesuffix(".*") for pattern in patterns}
    return {case: pair for case, pair in expected_cases.items() if group_of(case) in groups}


def differences(expected_cases, observed_cases):
    """Every case that is not exactly as expected, in the suite's order."""
    found = []
    for case in sorted(expected_cases.keys() | observed_cases.keys(), key=case_order):
        expected = behaviors(expected_cases.get(case), NOT_EXPECTED)
        observed = behaviors(observed_cases.get(case), NOT_RUN)
        if observed != expected:
            found.append(Difference(case, observed, expected))
    return found


def table(expected_cases, found):
    """One line for each group of cases: how many there are, how many differ."""
    lines = [f"  {'group':<28}{'cases':>7}{'differ':>8}"]
    for group, name in GROUPS.items():
        cases = sum(group_of(case) == group for case in expected_cases)
        differ = sum(group_of(difference.case) == group for difference in found)
        if cases or differ:
            lines.append(f"  {group + '.*':<5}{name:<23}{cases:>7}{differ or '-':>8}")
    return "\n".join(lines)


def explain(difference, report):
    """What differs in one case, with the suite's words from its detail report."""
    lines = [
        f"  {difference.case}: {' / '.join(difference.observed)}, "
        f"expected {' / '.join(difference.expected)} (behaviour / close)"
    ]
    for key in ("description", "expectation", "result", "resultClose"):
        if report.get(key):
            lines.append(f"      {key}: {plain_text(report[key])}")
    return "\n".join(lines)


def behaviors(case, otherwise):
    return (case["behavior"], case["behaviorClose"]) if case else otherwise


def group_of(case):
    return case.split(".", 1)[0]


def case_order(case):
    return tuple(int(number) for number in case.split("."))


def plain_text(html):
    """The suite's texts carry some markup and line breaks; a terminal has no use for them."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())
