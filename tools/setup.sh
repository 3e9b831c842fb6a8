#!/usr/bin/env bash
# Makes the virtual environment .venv with everything the repository needs, and installs system packages
# where they are missing. Does nothing when all is there.
#
#   tools/setup.sh         what building and serving need
#   tools/setup.sh text    and the extra text, which channels of texts need
#   tools/setup.sh test    and what the tests need: the extra dev; redis-server, openssl, promtool
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3}; do
        if command -v "$name" > /dev/null \
            && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed; on Debian 12: apt-get install python3, or name one: PYTHON=/path/to/python3.11 make demo"
}

# Debian packages that are missing, one a line.
missing_packages() {
    local version library
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import venv, ensurepip' 2> /dev/null || echo "python$version-venv"
    # Triton's Python backend loads libpython; a Python built with --enable-shared brings its own.
    library=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')/libpython$version.so.1.0
    [ -e "$library" ] || ldconfig -p 2> /dev/null | grep -q "libpython$version.so.1.0" || echo "libpython$version"
    if [ "${1:-}" = test ]; then
        command -v redis-server > /dev/null || echo redis-server
        command -v openssl > /dev/null || echo openssl
        command -v promtool > /dev/null || echo prometheus
    fi
}

install_packages() {
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo="sudo -n"
        $sudo true 2> /dev/null || fail "system packages are missing and need an administrator: apt-get install $*"
    fi
    command -v apt-get > /dev/null || fail "system packages are missing; install what your system calls: $*"
    printf 'setup: installing system packages: %s\n' "$*"
    # redis-server and prometheus must not start as services: the tests start their own.
    $sudo sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@"' \
        sh "$@" > /dev/null || fail "apt-get could not install: $*"
}

python=$(find_python)
mapfile -t packages < <(missing_packages "${1:-}")
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"

extras=server,build,load,deploy
[ "${1:-}" != test ] || extras+=,dev
[ "${1:-}" != text ] || extras+=,text
hash=$(cat pyproject.toml clients/pyproject.toml | sha256sum | cut -c1-16)
stamp=.venv/installed-$extras-$hash
if [ ! -e "$stamp" ] && [ ! -e ".venv/installed-server,build,load,deploy,dev-$hash" ]; then
    printf 'setup: installing into .venv (the first time takes a few minutes)\n'
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    rm -f .venv/installed-*
    # One resolver call: numpy < 2 must hold for every package at once.
    .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -e ./clients -e ".[$extras]" \
        || fail "pip could not install the dependencies; its message is above"
    .venv/bin/python -m pip check || fail "the installed packages do not fit together"
    touch "$stamp" ".venv/installed-server,build,load,deploy-$hash"
fi
