#!/usr/bin/env bash
# Installs the programs that the tests with hosts of their own, the clock rows
# and the check of the units need: nothing else needs them, and such tests are
# skipped without.
#
#   system-packages.sh         install what is missing, where apt and root are
#   system-packages.sh all     the same, and what only thorough tests need
#   system-packages.sh check   say what is missing; fail when something is
set -euo pipefail

# The program, and Debian's package that has it.
declare -A packages=(
    [ip]=iproute2
    [nft]=nftables
    [nsenter]=util-linux
    [faketime]=faketime
    [systemd-analyze]=systemd
)
if [[ ${1:-} == all ]]; then
    packages+=([debootstrap]=debootstrap [logrotate]=logrotate [systemd-nspawn]=systemd-container)
fi

missing=()
for program in "${!packages[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null ||
        missing+=("${packages[$program]}")
done

if ((${#missing[@]} == 0)); then
    exit 0
fi
echo "Not installed: ${missing[*]}" >&2
if [[ ${1:-} == check ]]; then
    exit 1
fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "Install them to run the tests that need them; those are skipped now." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq &&
    apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null; }; then
    echo "They cannot be installed now. The tests that need them are skipped, and say so." >&2
fi
