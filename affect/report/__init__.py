"""The folder of a study → pages that a browser opens from disk: `write_report`."""

from affect.report.report import write_overview, write_page, write_report

__all__ = ["write_overview", "write_page", "write_report"]
