"""A gate as JUnit XML, which CI systems show as tests: a condition a test."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from innerloop.harness.cli.words import visible
from innerloop.harness.report.gate import interval, outcome, value, word
from innerloop.harness.schema.gate import CheckedCondition, Gate


def junit(gate: Gate) -> str:
    """failure: the condition failed; error: it is undecided. One that is let pass is skipped."""
    suite = Element(
        "testsuite",
        name="innerloop gate",
        tests=str(len(gate.conditions)),
        failures=str(sum(one.outcome == "failed" for one in gate.conditions)),
        errors=str(sum(one.outcome == "cannot tell" and not one.waived for one in gate.conditions)),
        skipped=str(sum(one.waived for one in gate.conditions)),
    )
    for one in gate.conditions:
        test = SubElement(suite, "testcase", classname=f"innerloop.{one.figure}", name=f"fails if {visible(one.text)}")
        if one.outcome != "passed":
            tag = "skipped" if one.waived else "failure" if one.outcome == "failed" else "error"
            told = SubElement(test, tag, message=visible(message(one)))
            if tag != "skipped":
                told.set("type", word(one.outcome))
        SubElement(test, "system-out").text = visible(f"{one.figure}: {value(one)}, 95 %: {interval(one)}")
    indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def message(one: CheckedCondition) -> str:
    words = f"{outcome(one)}: {value(one)}, 95 %: {interval(one)}"
    return f"{words}; {one.reason}" if one.reason else words
