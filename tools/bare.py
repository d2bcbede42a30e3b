"""Check a core-only install: no torch, the catalogue lists, and importing is light."""

from __future__ import annotations

import importlib.util
import subprocess
import sys


def main() -> None:
    """Fail loudly when the light core is not light."""
    for package in ("torch", "matplotlib", "openai", "pyarrow", "sentence_transformers"):
        if importlib.util.find_spec(package) is not None:
            sys.exit(f"{package} is installed: this is not a core-only environment.")
    code = "import sys, turnout; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"numpy", "scipy", "sklearn", "pandas", "starlette", "uvloop"} & set(loaded)
    if heavy:
        sys.exit(f"`import turnout` loads {', '.join(sorted(heavy))}; it must stay lazy.")
    listing = subprocess.run(
        [sys.executable, "-m", "turnout", "methods"], capture_output=True, text=True, check=True
    ).stdout
    print(listing)
    print("core-only install: imports, is light, lists the catalogue")


if __name__ == "__main__":
    main()
