"""A real browser that a program of node drives: JSON in, JSON out, a line each."""

import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent / "browser"

#: The names of the programs, the first of which that is there is taken.
PROGRAMS = {
    "chrome": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}


class BrowserProcess:
    """A browser and what drives it.

    Args:
        script: Of the folder ``browser``.
        name: A key of :data:`PROGRAMS`.
        options: The last argument of the script.
    """

    def __init__(self, script, name, options):
        found = [shutil.which(program) for program in PROGRAMS[name]]
        programs = [program for program in found if program]
        assert programs, f"none of {', '.join(PROGRAMS[name])} is installed"
        self._process = subprocess.Popen(
            ["node", HERE / script, name, programs[0], options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip

    def ask(self, message):
        """Returns the answer to a message, which must not be an error."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer

    def end(self):
        """Ends the browser, which must end well."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0
