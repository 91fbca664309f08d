"""Module parameters by the kernel's own rules: parse, check, render. Pure."""

from lkm.params.rules import (
    Assignment,
    Parameter,
    Value,
    as_text,
    check,
    parse_arguments,
    parse_assignments,
    render,
)

__all__ = [
    "Assignment",
    "Parameter",
    "Value",
    "as_text",
    "check",
    "parse_arguments",
    "parse_assignments",
    "render",
]
