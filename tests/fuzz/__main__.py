"""Coverage-guided fuzzing of everything that parses foreign bytes, each target in a process of its own.

    python tests/fuzz [TARGET ...] [--seconds 20] [--findings FOLDER] [--corpus FOLDER] [--keep] [--replay]

Prints for each target the seconds, the number of inputs and what was found: an exception that is not documented, a
crash, more than 2 s of processor time or 2 GB of memory for an input. The input is kept in FOLDER. The corpus in
`tests/golden/fuzz` is where it begins; --corpus keeps what else it comes upon, and --keep afterwards adds to the corpus
what covers more, up to 32 kB a target. --replay only runs the corpus, once, and needs no atheris.
"""

import argparse
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), *(str(HERE.parents[1] / name) for name in ("src", "tools"))]

from memory import peak_memory  # noqa: E402

GOLDEN = HERE.parent / "golden" / "fuzz"
SECONDS = 2.0  # of the processor for one input of some kB
MEMORY_MB = 2048
MAX_LENGTH = 16_384
CORPUS_BYTES = 32_000  # of a target, in the repository
NAMES = ("archive", "text", "exported", "dicom", "nifti", "picture", "upload", "weights")


def bounded(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The function, with an error for an input that takes too much of the processor or of the memory."""

    def bounded_run(data: bytes) -> None:
        start = time.process_time()
        run(data)
        taken = time.process_time() - start
        assert taken <= SECONDS, f"{taken:.1f} s of processor time for {len(data)} bytes"
        peak = peak_memory() >> 20  # libFuzzer itself only looks once a second
        assert peak <= MEMORY_MB, f"{peak} MB of memory for {len(data)} bytes"

    return bounded_run


def replay(name: str) -> None:
    """Run the corpus once, without atheris."""
    from targets import TARGETS

    run, files = TARGETS[name].prepare(), sorted((GOLDEN / name).iterdir())
    for data in TARGETS[name].seeds()[:1]:
        run(data)  # imports are no hang
    for path in files:
        print(path.name, end="\r", flush=True)  # names the culprit of a crash
        bounded(run)(path.read_bytes())
    print(f"{name}: {len(files)} inputs of the corpus, no finding")


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz until libFuzzer ends this process."""
    import atheris
    from targets import TARGETS  # its own branches guide nothing

    target = TARGETS[name]
    for module in [each for each in sys.modules if each.split(".")[0] in target.modules]:
        del sys.modules[module]  # it was imported before it could be instrumented
    with atheris.instrument_imports(include=target.modules):
        run = target.prepare()
        seeds = target.seeds()
        for data in seeds:
            run(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)

        def change(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(2 * len(part), 64)))

        if random.random() < 0.6:
            try:
                return target.mutate(data, random, change)[:max_size]
            except Exception:  # an earlier mutation has broken the container
                pass
        return bytes(atheris.Mutate(data, max_size))

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds):
            Path(folder, f"seed-{number}").write_bytes(data)
        atheris.Setup([command(name), *options, folder], bounded(run), custom_mutator=mutate)
        atheris.Fuzz()


def command(name: str) -> str:
    """What libFuzzer starts by a shell for a part of its work."""
    return shlex.join([sys.executable, str(HERE), name, "--options-of-libfuzzer"])


def keep(name: str, corpus: Path) -> None:
    """Add to the corpus in the repository what covers more than it does, the smallest first."""
    own = GOLDEN / name
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(own, Path(folder, "merged"))
        options = f" -merge=1 -rss_limit_mb={MEMORY_MB} {shlex.join([f'{folder}/merged', str(corpus / name)])}"
        subprocess.run(
            command(name) + options, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        new = [path for path in Path(folder, "merged").iterdir() if not (own / path.name).exists()]
        room = CORPUS_BYTES - sum(path.stat().st_size for path in own.iterdir())
        for path in sorted(new, key=lambda path: (path.stat().st_size, path.name)):
            room -= path.stat().st_size
            if room < 0:
                break
            shutil.copy(path, own / path.name)


def fuzzed(name: str, arguments: argparse.Namespace) -> bool:
    """Fuzz one target in another process, print a line, and say whether nothing was found."""
    findings = arguments.findings / name
    findings.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={arguments.seconds}", f"-max_len={MAX_LENGTH}", f"-rss_limit_mb={MEMORY_MB}"]
    options += [f"-artifact_prefix={findings}/", "-timeout=60", "-print_final_stats=1"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = (arguments.corpus or Path(scratch)) / name  # the first folder gets what is new
        corpus.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-X", "faulthandler", str(HERE), name, "--options-of-libfuzzer", *options]
        program += [str(corpus), str(GOLDEN / name)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            last = deque(process.stdout, maxlen=100)  # decoders print without end
    log = b"".join(last).decode(errors="replace")
    inputs = re.search(r"number_of_executed_units: (\d+)", log)
    found = "nothing found" if process.returncode == 0 else f"FOUND (exit {process.returncode})"
    seconds = time.monotonic() - start
    print(f"{name}: {seconds:.0f} s, {int(inputs[1]) if inputs else 0:,} inputs, {found}", flush=True)
    if process.returncode:
        print(log[-4000:], flush=True)
    return process.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), help="where inputs that fail are kept")
    parser.add_argument("--corpus", type=Path, help="folder to read and keep interesting inputs in, by target")
    parser.add_argument("--replay", action="store_true", help="run the corpus once, without atheris")
    parser.add_argument(
        "--keep", action="store_true", help="add what covers more in FOLDER of --corpus to tests/golden"
    )
    parser.add_argument("--options-of-libfuzzer", nargs=argparse.REMAINDER, dest="options", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(NAMES):
        parser.error(f"expected targets of {', '.join(NAMES)}, got {min(unknown)}")
    names = arguments.targets or NAMES
    # What asks for more gets none, before the machine has none left.
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    if arguments.options is not None:
        fuzz(names[0], arguments.options)
    if arguments.replay:
        for name in names:
            replay(name)
        return 0
    if arguments.keep:
        for name in names:
            keep(name, arguments.corpus)
        return 0
    found = [fuzzed(name, arguments) for name in names]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
