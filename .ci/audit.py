#!/usr/bin/env python3
"""Asks osv.dev for the known vulnerabilities of the versions in constraints.txt.

    python .ci/audit.py

Exit codes: 0 all were looked up and none is known; 1 some are, and are listed; 2 nothing was audited, and why.
"""

import json
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
SERVICE = "https://api.osv.dev/v1/querybatch"
PATIENCE = 30  # seconds


def main(service: str = SERVICE) -> int:
    """Looks up, tells, and returns the exit code."""
    pinned = [line.split("==") for line in CONSTRAINTS.read_text().split()]
    asked = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in pinned]
    request = urllib.request.Request(service, json.dumps({"queries": asked}).encode())
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            results = json.load(answer)["results"]
        known = [[found["id"] for found in result.get("vulns", ())] for result in results]
        listed = [(name, version, ids) for (name, version), ids in zip(pinned, known, strict=True) if ids]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as fault:
        print(f"NOT AUDITED: {service} gave no answer for {len(pinned)} packages ({fault})", file=sys.stderr)
        return 2
    for name, version, ids in listed:
        print(f"{name} {version}: {', '.join(ids)}")
    print(f"audited {len(pinned)} packages: {len(listed)} with known vulnerabilities")
    return int(bool(listed))


if __name__ == "__main__":
    sys.exit(main())
