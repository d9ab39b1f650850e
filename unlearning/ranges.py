"""Types of numbers and lists with their range, for arguments of classes and configuration keys.

A checker reads the range (pydantic, jsonargparse); to Python they are plain numbers and lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen

LARGEST = 2**31 - 1
"""No count of steps, tokens or rows comes near it."""
LARGEST_NUMBER = 1e12

Count = Annotated[int, Ge(1), Le(LARGEST)]
Whole = Annotated[int, Ge(0), Le(LARGEST)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # what numpy takes
Positive = Annotated[float, Gt(0), Le(LARGEST_NUMBER)]
NotNegative = Annotated[float, Ge(0), Le(LARGEST_NUMBER)]
Number = Annotated[float, Ge(-LARGEST_NUMBER), Le(LARGEST_NUMBER)]
Share = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
InnerShare = Annotated[float, Gt(0), Lt(1)]
AboveOne = Annotated[float, Gt(1), Le(LARGEST_NUMBER)]
Names = Annotated[Sequence[str], MinLen(1)]
