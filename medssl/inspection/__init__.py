"""What is wrong with a data set, and what it looks like."""

from medssl.inspection.case import Case, Finding, inspect_case
from medssl.inspection.data_set import Inspection, inspect
from medssl.inspection.page import write_page

__all__ = ["Case", "Finding", "Inspection", "inspect", "inspect_case", "write_page"]
