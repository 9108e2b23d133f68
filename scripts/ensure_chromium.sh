#!/bin/sh
# Finds a Chromium for the browser tests, or installs one where that is allowed.
#
# Owns: the order in which a browser is looked for, and the words said when there is none.
# Refuses: failing. Without a browser the suite runs and leaves its browser tests out, saying so in its summary.
#
# Where apt-get exists and we are root, one attempt is made to install Debian's `chromium`. A failed attempt is not
# remembered: the next run tries again, because a failing mirror is usually a passing trouble.
set -u

works() {
    # Ubuntu's chromium-browser package is a stub that only starts a snap: being on PATH is not enough.
    command -v "$1" >/dev/null 2>&1 && "$1" --version >/dev/null 2>&1 </dev/null
}

find_browser() {
    for name in "${FLOWBOOK_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
        "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
        if [ -n "$name" ] && works "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

if browser=$(find_browser); then
    echo "browser tests: using $browser"
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    why="there is no Chromium here and no apt-get to install it with"
elif [ "$(id -u)" -ne 0 ]; then
    why="there is no Chromium here and only root may install it (apt-get install chromium)"
else
    echo "browser tests: installing chromium with apt-get (once; this takes a minute)"
    log=$(mktemp)
    if DEBIAN_FRONTEND=noninteractive apt-get update -q >"$log" 2>&1 </dev/null &&
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core \
            >>"$log" 2>&1 </dev/null &&
        browser=$(find_browser); then
        rm -f "$log"
        echo "browser tests: using $browser"
        exit 0
    fi
    tail -n 5 "$log"
    rm -f "$log"
    why="apt-get could not install Chromium (its last words are above)"
fi

echo "browser tests: LEFT OUT: $why"
echo "browser tests: set FLOWBOOK_CHROMIUM to a Chromium or Chrome to have them run"
exit 0
