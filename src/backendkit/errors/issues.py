"""What can be wrong with a field: for each of pydantic's error types our code and our words.

Codes are part of the public promise; they do not change when pydantic renames a type. Words name the
rule and its bound (`{min_length}`, from the error's context), never the input. A test holds the table against
pydantic's own list, so that a type which a new release adds is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OTHER = "Invalid value"
"""What is said where anything more could repeat the input."""

_TYPES = {
    "an object": "model_type model_attributes_type dataclass_type dataclass_exact_type dict_type "
    "named_tuple_type mapping_type frozen_dict_type ordered_dict_type counter_type arguments_type",
    "a list": "list_type tuple_type set_type frozen_set_type deque_type iterable_type",
    "a string": "string_type",
    "a boolean": "bool_type bool_parsing",
    "an integer": "int_type int_parsing int_from_float",
    "a number": "float_type float_parsing decimal_type decimal_parsing complex_type "
    "complex_str_parsing fraction_type fraction_parsing",
    "binary data": "bytes_type",
    "null": "none_required",
    "JSON text": "json_type",
    "a string key": "invalid_key",
}

_FORMATS = {
    "date (YYYY-MM-DD)": "date_type date_parsing date_from_datetime_parsing date_from_datetime_inexact",
    "time": "time_type time_parsing",
    "date and time (RFC 3339)": "datetime_type datetime_parsing datetime_object_invalid "
    "datetime_from_date_parsing",
    "duration": "time_delta_type time_delta_parsing",
    "URL": "url_type url_parsing url_syntax_violation",
    "UUID": "uuid_type uuid_parsing uuid_version",
    "text in the right encoding": "string_unicode bytes_invalid_encoding",
}

ISSUES: Mapping[str, tuple[str, str]] = {
    **{
        kind: ("INVALID_TYPE", f"Must be {what}")
        for what, kinds in _TYPES.items()
        for kind in kinds.split()
    },
    **{
        kind: ("INVALID_FORMAT", f"Must be a valid {what}")
        for what, kinds in _FORMATS.items()
        for kind in kinds.split()
    },
    "missing": ("REQUIRED", "Is required"),
    "missing_argument": ("REQUIRED", "Is required"),
    "missing_keyword_only_argument": ("REQUIRED", "Is required"),
    "missing_positional_only_argument": ("REQUIRED", "Is required"),
    "extra_forbidden": ("UNKNOWN_FIELD", "Is not a known field"),
    "unexpected_keyword_argument": ("UNKNOWN_FIELD", "Is not a known field"),
    "unexpected_positional_argument": ("UNKNOWN_FIELD", "Is not a known field"),
    "frozen_field": ("READ_ONLY", "Cannot be changed"),
    "frozen_instance": ("READ_ONLY", "Cannot be changed"),
    "string_too_short": ("TOO_SHORT", "Must have at least {min_length} characters"),
    "string_too_long": ("TOO_LONG", "Must have at most {max_length} characters"),
    "url_too_long": ("TOO_LONG", "Must have at most {max_length} characters"),
    "bytes_too_short": ("TOO_SHORT", "Must have at least {min_length} bytes"),
    "bytes_too_long": ("TOO_LONG", "Must have at most {max_length} bytes"),
    "too_short": ("TOO_SHORT", "Must have at least {min_length} items"),
    "too_long": ("TOO_LONG", "Must have at most {max_length} items"),
    "greater_than": ("TOO_SMALL", "Must be greater than {gt}"),
    "greater_than_equal": ("TOO_SMALL", "Must be at least {ge}"),
    "less_than": ("TOO_LARGE", "Must be less than {lt}"),
    "less_than_equal": ("TOO_LARGE", "Must be at most {le}"),
    "int_parsing_size": ("TOO_LARGE", "Has too many digits"),
    "multiple_of": ("NOT_A_MULTIPLE", "Must be a multiple of {multiple_of}"),
    "finite_number": ("NOT_FINITE", "Must be a finite number"),
    "decimal_max_digits": ("TOO_PRECISE", "Must have at most {max_digits} digits"),
    "decimal_max_places": ("TOO_PRECISE", "Must have at most {decimal_places} decimals"),
    "decimal_whole_digits": (
        "TOO_LARGE",
        "Must have at most {whole_digits} digits before the point",
    ),
    "string_pattern_mismatch": ("INVALID_FORMAT", "Does not have the right format"),
    "string_not_ascii": ("INVALID_FORMAT", "Must be ASCII text"),
    "url_scheme": ("INVALID_FORMAT", "Must be a URL that begins with {expected_schemes}"),
    "enum": ("NOT_ALLOWED", "Must be {expected}"),
    "literal_error": ("NOT_ALLOWED", "Must be {expected}"),
    "union_tag_invalid": ("NOT_ALLOWED", "{discriminator} must be one of {expected_tags}"),
    "union_tag_not_found": ("REQUIRED", "{discriminator} is required"),
    "date_past": ("NOT_IN_PAST", "Must be in the past"),
    "datetime_past": ("NOT_IN_PAST", "Must be in the past"),
    "date_future": ("NOT_IN_FUTURE", "Must be in the future"),
    "datetime_future": ("NOT_IN_FUTURE", "Must be in the future"),
    "timezone_naive": ("INVALID_FORMAT", "Must not have a time zone"),
    "timezone_aware": ("INVALID_FORMAT", "Must have a time zone"),
    "timezone_offset": ("INVALID_FORMAT", "Must have another time zone"),
    "recursion_loop": ("TOO_DEEP", "Refers to itself"),
    "recursion_depth_exceeded": ("TOO_DEEP", "Is nested too deeply"),
    # What only the application's own types can cause; the client's value is at fault all the same.
    **dict.fromkeys(
        (
            "no_such_attribute",
            "needs_python_object",
            "get_attribute_error",
            "iteration_error",
            "default_factory_not_called",
            "set_item_not_hashable",
            "missing_sentinel_error",
            "ellipsis_error",
            "is_instance_of",
            "is_subclass_of",
            "callable_type",
            "multiple_argument_values",
        ),
        ("INVALID_VALUE", OTHER),
    ),
}

NO_MATCH = "Matches none of the allowed types"
NOT_AN_EMAIL = "Must be a valid email address"
NOT_JSON = "Not valid JSON at character {offset}: {reason}"

SENTENCES: Mapping[str, str] = {
    **{sentence: code for code, sentence in ISSUES.values()},
    NO_MATCH: "INVALID_TYPE",
    NOT_AN_EMAIL: "INVALID_VALUE",
    NOT_JSON: "INVALID_JSON",
}
"""Every sentence of ours, with its code: what translations are checked against."""


class Issue(dict[str, str]):
    """A line of `details` that still knows from which sentence it was made, so that it can be told in another language.

    Attributes:
        template: the sentence.
        params: what it was filled with; never the input.
    """

    __slots__ = ("params", "template")

    def __init__(self, line: Mapping[str, str], template: str, params: Mapping[str, Any]) -> None:
        super().__init__(line)
        self.template = template
        self.params = params

    def __reduce__(self) -> tuple[type[Issue], tuple[Any, ...]]:
        return Issue, (dict(self), self.template, dict(self.params))
