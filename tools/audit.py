"""Look for published vulnerabilities of the pinned packages, and say plainly if that was not possible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOT_AUDITED = "NOT AUDITED"


def verdict(report: dict[str, Any], *, required: bool) -> tuple[int, str]:
    """
    Return the exit status and the text for a report of pip-audit.

    pip-audit ends with success if its service does not answer: it then lists every package as skipped.

    :param report: its JSON.
    :param required: whether an audit that was not possible is a failure.
    """
    packages = report["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    lines = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in vulnerable
        for vulnerability in package["vulns"]
    ]
    if not packages:
        return 1, "pip-audit lists no package: constraints.txt was not read."
    if skipped:
        lines.append(f"{NOT_AUDITED}: {len(skipped)} of {len(packages)} packages. {skipped[0]['skip_reason']}")
    else:
        lines.append(f"{len(packages)} packages were audited, {len(vulnerable)} have known vulnerabilities.")
    return int(bool(vulnerable) or (required and bool(skipped))), "\n".join(lines)


def main() -> int:
    """Audit constraints.txt; return the exit status. With ``AUDIT_REQUIRED`` set, an audit must be possible."""
    required = bool(os.environ.get("AUDIT_REQUIRED"))
    command = [Path(sys.executable).parent / "pip-audit", "--requirement", ROOT / "constraints.txt", "--no-deps"]
    options = ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        *_, last = ["", *done.stderr.strip().splitlines()]
        print(f"{NOT_AUDITED}: pip-audit failed with exit status {done.returncode}.\n{last}".rstrip())
        return int(required)
    status, text = verdict(report, required=required)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
