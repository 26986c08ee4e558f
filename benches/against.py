"""What the comparisons with other programs share: virtual environments, builds, processes, the machine."""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def fail(message):
    sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {message}")


def say(message):
    print(message, file=sys.stderr, flush=True)


def run(main):
    try:
        main()
    except KeyboardInterrupt:
        fail("stopped")


def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value
    parse.__name__ = f"positive {kind.__name__}"
    return parse


def program(text):
    """A path to something that can be run, found out before anything is measured."""
    path = os.path.abspath(text)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise argparse.ArgumentTypeError(f"{text} is no program")
    return path


def environment(name, packages):
    """The Python of a virtual environment under target/ with exactly these packages, installed the first time."""
    directory = TARGET / name
    python, done = directory / "bin" / "python", directory / "installed"
    wanted = " ".join([platform.python_version(), *packages])
    if not (done.is_file() and done.read_text() == wanted):
        say(f"Installing {', '.join(packages)} into {directory}")
        try:
            venv.create(directory, clear=True, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            fail(f"can't make a virtual environment (Debian: apt install python3-venv): {error}")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        result = subprocess.run(pip, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            fail(f"pip on Python {platform.python_version()}: {(errors or ['failed'])[-1]}")
        done.write_text(wanted)
    return python


def build(arguments, name):
    """Builds with cargo; the executable of the target `name`."""
    say(f"Building: cargo {' '.join(arguments)}")
    command = [os.environ.get("CARGO", "cargo"), *arguments, "--message-format=json-render-diagnostics"]
    try:
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        fail(f"can't run cargo: {error}")
    if result.returncode:
        fail("the build failed")
    for line in result.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    fail(f"cargo built no executable {name}")


def together(commands, limit, env=None):
    """Runs the commands at the same time; the JSON lines that each wrote, and the seconds until all had ended."""
    outputs = [(tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")) for _ in commands]
    processes, began = [], time.monotonic()
    try:
        for command, (out, err) in zip(commands, outputs):
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env))
        while None in [process.poll() for process in processes]:
            if any(process.returncode for process in processes):
                break
            if time.monotonic() - began > limit:
                fail(f"{command[0]} took longer than {limit:.0f} s")
            time.sleep(0.01)
        seconds = time.monotonic() - began
    except OSError as error:
        fail(f"can't run {command[0]}: {error}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    results = []
    for process, (out, err) in sorted(zip(processes, outputs), key=lambda pair: pair[0].returncode == -9):
        out.seek(0), err.seek(0)
        if process.returncode:
            last = (err.read().strip() or "no message").splitlines()[-1]
            fail(f"{process.args[0]} ended with status {process.returncode}: {last}")
    for (out, _), command in zip(outputs, commands):
        try:
            results.append([json.loads(line) for line in out if line.startswith("{")])
        except ValueError as error:
            fail(f"{command[0]} wrote a line that is no JSON: {error}")
        if not results[-1]:
            fail(f"{command[0]} wrote no JSON line")
    return results, seconds


def paired(ours, theirs):
    """The median of the ratios of each turn, with the least and the greatest."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def table(rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


class Load:
    """Notices what else runs during measurements. Threads that wait for each other, as PyTorch's do, lose far more by
    that than its share of the CPUs."""

    def __init__(self):
        self.most = 0.0

    @contextlib.contextmanager
    def watched(self):
        before = self._seconds()
        yield
        elapsed, others = [after - before for after, before in zip(self._seconds(), before)]
        share = others / elapsed if elapsed else 0.0
        self.most = max(self.most, share)
        if share > 0.05:
            say(f"warning: other programs used {share:.0%} of the CPUs; what was just measured may be far off")

    @staticmethod
    def _seconds():
        """Of all CPUs, and of those what others used than the processes that this one ran; zeros without /proc."""
        try:
            with open("/proc/stat") as file:
                ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in file.readline().split()[1:9]]
        except OSError:
            return 0.0, 0.0
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        idle = ticks[3] + ticks[4]
        return sum(ticks), sum(ticks) - idle - sum(usage.ru_utime + usage.ru_stime for usage in used)

    def __str__(self):
        return f"Other programs used at most {max(self.most, 0):.0%} of the CPUs during a measurement."


def machine(*versions):
    """A line that says on what was measured, and when."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    def first_line(*command):
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""
    commit = first_line("git", "describe", "--always", "--dirty")
    rust = " ".join(first_line("rustc", "--version").split()[:2])
    parts = [f"{name}, {os.cpu_count()} CPUs", platform.system(), *versions, f"Peerfold {commit}".strip(), rust]
    return "; ".join(part for part in parts if part) + f"; {time.strftime('%Y-%m-%d')}."
