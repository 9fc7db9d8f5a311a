"""Standard input, output and error that are there, also where the program was started without them."""

from __future__ import annotations

import os
import sys
from typing import Final

_HIGHEST: Final = 2


def hold_standard_streams() -> None:
    """Open what is closed of the descriptors 0 to 2, to the null device. To be called before anything else is opened.

    The next file or socket would get such a number: a child process would take it for its output, and whatever prints
    would write into it.
    """
    for number in range(_HIGHEST + 1):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(number, True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
