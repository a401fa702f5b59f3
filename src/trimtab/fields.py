"""Kinds of input that several parts of the API share; imports nothing of the program, so clients may use it."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

FORBIDDEN_IN_NAMES = "@/"


class Strict(BaseModel):
    """Input that refuses unknown fields by name, with the field that was probably meant."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_was_meant(cls, data: Any, handler: Any) -> Self:
        try:
            validated: Self = handler(data)
            return validated
        except ValidationError as error:
            lines = error.errors(include_url=False)
            raise ValidationError.from_exception_data(cls.__name__, [_line(cls, line) for line in lines]) from None


def _line(model: type[BaseModel], line: Any) -> InitErrorDetails:
    message = str(line["msg"])
    if line["type"] == "extra_forbidden" and len(line["loc"]) == 1:
        message = unknown_field(str(line["loc"][0]), list(model.model_fields))
    # Without a context the template is taken as it is, so braces in it stand for themselves.
    return InitErrorDetails(type=PydanticCustomError(line["type"], message), loc=line["loc"], input=line["input"])


def unknown_field(name: str, known: list[str]) -> str:
    """What to tell someone who gave the field `name` where only `known` ones exist."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Unknown field; did you mean `{close[0]}`?"
    return f"Unknown field; known ones are {', '.join(f'`{field}`' for field in known)}"


def check_name(value: str) -> str:
    """`value` without blanks at its ends. Raises ValueError unless it is a name as names are everywhere here."""
    value = value.strip()
    if not 1 <= len(value) <= 128:
        raise ValueError("a name has 1 to 128 characters")
    if not value.isprintable() or any(character in FORBIDDEN_IN_NAMES for character in value):
        raise ValueError("a name is made of printable characters without `@` and `/`")
    return value


Name = Annotated[str, AfterValidator(check_name)]
Comment = Annotated[str, Field(max_length=10_000)]
Moment = AwareDatetime
