"""A gate's verdicts as JUnit XML, which every CI system shows."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from onnxmi.gate.check import Report
from onnxmi.reporting.text import printable


def junit_xml(report: Report) -> bytes:
    """Return one test suite with a test case for each check."""
    counts = {"tests": str(len(report.verdicts)), "failures": str(len(report.failed)), "errors": "0"}
    suites = Element("testsuites", counts)
    suite = SubElement(suites, "testsuite", {"name": "onnxmi check", **counts})
    for verdict in report.verdicts:
        named = {"classname": f"onnxmi.{printable(report.model)}", "name": verdict.name}
        case = SubElement(suite, "testcase", named)
        said = f"asked: {verdict.asked}; measured: {verdict.measured}"
        text = printable("; ".join(filter(None, [said, verdict.detail])))
        if verdict.passed:
            SubElement(case, "system-out").text = text
        else:
            SubElement(case, "failure", {"message": text, "type": "LimitExceeded"}).text = text
    indent(suites)
    return bytes(tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"
