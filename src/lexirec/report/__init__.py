"""Self-contained HTML reports from plain frames, arrays and dictionaries; no model is needed to write one."""

from lexirec.report.html import Markup, Section, write_report

__all__ = ["Markup", "Section", "write_report"]
