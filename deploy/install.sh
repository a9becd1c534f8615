#!/usr/bin/env bash
# Install the counter on Raspberry Pi OS (64 bit, Bookworm or later) and start it at power-on:
#
#     sudo deploy/install.sh
#
# Run it again to update. Settings (/etc/wbc) and counts (/var/lib/wbc) are never touched; the counts are copied,
# and the model is kept that began them.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "root is needed; run: sudo $0"
[ "$(dpkg --print-architecture)" = arm64 ] || [ -n "${WBC_ANY_MACHINE:-}" ] ||
    fail "64-bit Raspberry Pi OS is needed (this is $(dpkg --print-architecture)); install that, then run this again"
/usr/bin/python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
    fail "Python 3.11 to 3.13 is needed, found $(/usr/bin/python3 --version); use Raspberry Pi OS Bookworm or later"
source=$(cd "$(dirname "$0")/.." && pwd)

echo "1/5 camera library and Python"
apt-get update -q
apt-get install -qy --no-install-recommends python3-venv python3-picamera2

echo "2/5 user wbc, in the groups of the camera and the serial port"
id wbc >/dev/null 2>&1 || useradd --system --home-dir /var/lib/wbc --shell /usr/sbin/nologin wbc
usermod --append --groups video,dialout wbc
install -d -o wbc -g wbc -m 755 /var/lib/wbc
install -d -o wbc -g wbc -m 700 /var/lib/wbc/counts # identifiers are for the counter alone

echo "3/5 program in /opt/wbc"
if systemctl is-active --quiet wbc; then
    # What fails below, or is interrupted, leaves the counter running again, as long as its program still starts.
    trap 'echo "error: not updated (see above); the counter is started again" >&2; systemctl start wbc || true' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
fi
systemctl stop wbc 2>/dev/null || true
runuser -u wbc -- /usr/bin/python3 -I - /etc/wbc/edge.toml /var/lib/wbc <<'COPY' ||
import os, sqlite3, sys, tomllib
from pathlib import Path

os.umask(0o077)
settings, home = map(Path, sys.argv[1:])
try:
    chosen = tomllib.loads(settings.read_text("utf-8-sig")) if settings.exists() else {}
    counts = home / chosen.get("database", "counts/counts.sqlite")
except (OSError, ValueError, TypeError) as error:
    sys.exit(f"{settings}: {error}")
try:
    if counts.exists():
        database = sqlite3.connect(counts)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        # Of each version of the file the newest copy stays: what is run next may bring it to another.
        copy = counts.with_name(f"before-update-{version}.sqlite")
        new = copy.with_suffix(".new")
        new.unlink(missing_ok=True)
        database.execute("VACUUM INTO ?", (str(new),))
        new.replace(copy)
except (OSError, sqlite3.Error) as error:
    sys.exit(f"{counts}: {error}")
COPY
    fail "the counts cannot be copied (see above); make room, or move a damaged file away, then run this again"
for model in /opt/wbc/venv/lib/python3*/site-packages/edge/model/wbc.tflite; do
    [ -e "$model" ] || continue
    kept=/opt/wbc/models/$(sha256sum "$model" | cut -c1-12)
    install -D -m 644 -t "$kept" "$model" "${model%.tflite}.json"
done
# What an earlier version left where pip builds would be installed again.
rm -rf "$source/build" "$source"/*.egg-info
# The environment sees the system's picamera2, whose compiled parts need the system's NumPy generation.
/usr/bin/python3 -m venv --system-site-packages /opt/wbc/venv
numpy=$(/usr/bin/python3 -c 'import numpy; print(numpy.__version__.split(".")[0])')
echo "numpy<$((numpy + 1))" >/opt/wbc/constraints.txt
/opt/wbc/venv/bin/python -m pip install --upgrade --constraint /opt/wbc/constraints.txt "$source[edge]"
rm -rf "$source/build" "$source"/*.egg-info

echo "4/5 settings in /etc/wbc"
install -d -m 755 /etc/wbc
[ -e /etc/wbc/edge.toml ] || install -m 644 "$source/deploy/edge.toml" /etc/wbc/edge.toml

echo "5/5 service wbc"
install -m 644 "$source/deploy/wbc.service" /etc/systemd/system/wbc.service
systemctl daemon-reload
systemctl enable --quiet wbc
trap - EXIT
systemctl restart wbc

echo "Installed. Live page on this machine: http://127.0.0.1:8000"
echo "Settings: /etc/wbc/edge.toml, then: sudo systemctl restart wbc"
echo "State: systemctl status wbc. For Research Use Only. Not for use in diagnostic procedures."
