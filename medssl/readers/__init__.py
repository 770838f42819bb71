"""Scans of every format, read to their end."""

from medssl.readers.faults import KINDS, Kind, ScanError
from medssl.readers.scan import NIBABEL, SUFFIXES, check_scan, doubts, is_placed, read_header, read_scan

__all__ = [
    "KINDS",
    "NIBABEL",
    "SUFFIXES",
    "Kind",
    "ScanError",
    "check_scan",
    "doubts",
    "is_placed",
    "read_header",
    "read_scan",
]
