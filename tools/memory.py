"""The largest memory of a process.

`getrusage` knows it too, but on Linux tells that of the process which started this one where that was larger.
"""

from pathlib import Path


def peak_memory(pid: int | str = "self") -> int:
    """Largest resident set so far in bytes: VmHWM of proc(5), so on Linux only; 0 of a process that has ended.

    Raises:
        OSError: there is no such process.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
