#!/usr/bin/env bash
# Install the counter on Raspberry Pi OS (64 bit, Bookworm or later) and start it at power-on:
#
#     sudo deploy/install.sh
#
# Run it again to update. Settings (/etc/wbc) and counts (/var/lib/wbc) are never touched.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "root is needed; run: sudo $0"
[ "$(dpkg --print-architecture)" = arm64 ] || [ -n "${WBC_ANY_MACHINE:-}" ] ||
    fail "64-bit Raspberry Pi OS is needed (this is $(dpkg --print-architecture)); install that, then run this again"
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
    fail "Python 3.11 to 3.13 is needed, found $(python3 --version); use Raspberry Pi OS Bookworm or later"
source=$(cd "$(dirname "$0")/.." && pwd)

echo "1/5 camera library and Python"
apt-get update -q
apt-get install -qy --no-install-recommends python3-venv python3-picamera2

echo "2/5 user wbc, in the groups of the camera and the serial port"
id wbc >/dev/null 2>&1 || useradd --system --home-dir /var/lib/wbc --shell /usr/sbin/nologin wbc
usermod --append --groups video,dialout wbc

echo "3/5 program in /opt/wbc"
# The environment sees the system's picamera2, whose compiled parts need the system's NumPy generation.
python3 -m venv --system-site-packages /opt/wbc/venv
numpy=$(/usr/bin/python3 -c 'import numpy; print(numpy.__version__.split(".")[0])')
echo "numpy<$((numpy + 1))" >/opt/wbc/constraints.txt
/opt/wbc/venv/bin/python -m pip install --upgrade --constraint /opt/wbc/constraints.txt "$source[edge]"

echo "4/5 settings in /etc/wbc"
install -d -m 755 /etc/wbc
[ -e /etc/wbc/edge.toml ] || install -m 644 "$source/deploy/edge.toml" /etc/wbc/edge.toml

echo "5/5 service wbc"
install -m 644 "$source/deploy/wbc.service" /etc/systemd/system/wbc.service
systemctl daemon-reload
systemctl enable --quiet wbc
systemctl restart wbc

echo "Installed. Live page on this machine: http://127.0.0.1:8000"
echo "Settings: /etc/wbc/edge.toml, then: sudo systemctl restart wbc"
echo "State: systemctl status wbc. For Research Use Only. Not for use in diagnostic procedures."
