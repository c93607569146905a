"""Fuzz the plugin's readers: ``python -m tests.fuzz --seconds 60 midi``.

Inputs that fail are written, with their tracebacks, to the folder of ``--found``; ``--input FILE`` checks one again.
The exit status is 1 if something failed.  To keep an input, copy it to ``tests/fuzz/kept/TARGET/``, whose files the
suite checks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.running import failure_of, load_target, run_for, targets


def limit_memory(megabytes: int) -> None:
    """Let the process take so much memory more than it has, where the system can limit it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, hard))


def main(arguments: list[str]) -> int:
    """Run the command; returns its status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Damaged inputs for the plugin's readers."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all, see --list")
    parser.add_argument("--list", action="store_true", help="print the targets")
    parser.add_argument("--seconds", type=float, default=10, help="for each target (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other inputs (default: 1)")
    parser.add_argument("--limit", type=float, default=10, help="seconds that one input may take (default: 10)")
    parser.add_argument("--memory", type=int, default=2048, help="MB that all inputs may take (default: 2048)")
    parser.add_argument(
        "--most", type=int, default=20, help="stop a target after so many kinds of failures (default: 20)"
    )
    parser.add_argument("--found", type=Path, help="folder for inputs that fail (default: a new one of the system)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="check this input of the one TARGET instead")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(targets()))
        return 0
    unknown = [name for name in options.targets if name not in targets()]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}; targets are {', '.join(targets())}")
    if options.input and len(options.targets) != 1:
        parser.error("--input needs the one TARGET whose input it is")
    names = options.targets or targets()
    for name in names:
        load_target(name)
    limit_memory(options.memory)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        if options.input:
            failure = failure_of(names[0], str(options.input), options.input.read_bytes(), Path(scratch), options.limit)
            print(failure or f"{names[0]}: {options.input} passes", file=sys.stderr)
            return int(failure is not None)
        found = options.found or Path(tempfile.mkdtemp(prefix="fuzz-"))
        found.mkdir(parents=True, exist_ok=True)
        for name in names:
            folder = Path(scratch) / name
            folder.mkdir()
            failed += run_for(
                name,
                folder,
                found,
                seed=options.seed,
                seconds=options.seconds,
                limit=options.limit,
                most=options.most,
            )
    if not options.found and not failed:
        found.rmdir()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
