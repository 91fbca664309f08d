"""The report's sections in pytest's JUnit XML, which by itself has only what was captured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from _pytest.junitxml import LogXML, bin_xml_escape

from lkm.pytest_plugin.report import SECTIONS

__all__ = ["Sections"]


class Sections:
    """A plugin of the process that writes the XML: each section of lkm's becomes a `system-out`."""

    def __init__(self, xml: LogXML) -> None:
        self._xml = xml

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> object:
        """Add them to the test's element before the test's last report closes it."""
        for name, text in report.sections:
            if name.startswith(SECTIONS):
                element = ET.Element("system-out")
                element.text = bin_xml_escape(f"---- {name} ----\n{text}\n")
                self._xml.node_reporter(report).append(element)
        return (yield)
