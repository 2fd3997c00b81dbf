#!/usr/bin/env bash
# Install the Debian packages that `make test-system` tests against; what is there already is left alone.
set -euo pipefail

packages=(redis-server chromium chromium-driver prometheus)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
((EUID)) && as_root=(sudo)
# Without a policy, Debian starts the servers as soon as they are installed; the tests start their own.
"${as_root[@]}" apt-get update --quiet
RUNLEVEL=1 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
