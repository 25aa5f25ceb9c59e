#!/usr/bin/env bash
# Installs what covpipe is built with on Debian 12 (root, or sudo). Quick when everything is there already.
set -euo pipefail
packages=(gcc g++ cmake ninja-build openmpi-bin libopenmpi-dev libhdf5-openmpi-dev libnifti2-dev libznz-dev zlib1g-dev
          libpng-dev libdnnl-dev libssl-dev libcmocka-dev python3 python3-h5py)
missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
echo "installing: ${missing[*]}"
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
