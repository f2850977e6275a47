"""How a worker ends that has made a stranger's directory its root."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

FAULT_CODE = 2


def end_with(main: Callable[[list[str]], int], arguments: list[str]) -> NoReturn:
    """Call `main` and end at once with its code, or with `FAULT_CODE` and a line on stderr.

    Python's own way to end loads a library for the threads that still run, and its own report of a fault reads source
    files: by then both would be a stranger's.
    """
    code = FAULT_CODE
    try:
        code = main(arguments)
    except BaseException as error:  # noqa: BLE001 (nobody above may see it, see there)
        os.write(2, _fault(error).encode(errors="replace"))
    finally:
        os._exit(code)


def _fault(error: BaseException) -> str:
    places, step = [], error.__traceback__
    while step is not None:
        places.append(f"{step.tb_frame.f_code.co_name}:{step.tb_lineno}")
        step = step.tb_next
    return f"{type(error).__name__} in {' '.join(places[-8:])}: {error}\n"
