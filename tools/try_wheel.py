"""Install a built wheel into a fresh environment and do the main job with it, away from here."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Build the environment, run the demo in an empty folder, clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder that holds exactly one wheel")
    wheels = sorted(parser.parse_args().folder.resolve().glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"the folder must hold exactly one wheel; got {len(wheels)}. Run: make wheel.")
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [python, *install, "-c", str(constraints), f"{wheels[0]}[demo]"], check=True, cwd=folder
        )
        command: list[str | Path] = [python, "-m", "turnout", "demo", "--once", "--json"]
        subprocess.run(command, check=True, cwd=folder)
    print(f"{wheels[0].name}: {wheels[0].stat().st_size / 1e6:.1f} MB, does the main job")


if __name__ == "__main__":
    main()
