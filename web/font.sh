#!/usr/bin/env bash
# Makes src/app/inter-latin.woff2: of Inter (OFL, @fontsource-variable/inter) what the console's English needs, 22 KB of 48:
# weights 400 to 700, tabular figures, kerning. Other scripts come from the package itself. Needs uvx (fonttools).
set -euo pipefail
cd "$(dirname "$0")"
from=node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2
whole=$(mktemp --suffix=.woff2)
uvx --from 'fonttools[woff]' pyftsubset "$from" --flavor=woff2 --output-file="$whole" --layout-features=kern,tnum,ccmp,locl \
    --unicodes='U+0020-007E,U+00A0-00FF,U+2010-2027,U+2030-203A,U+20AC,U+2122,U+2190-2193,U+2212,U+2248,U+2264,U+2265'
uvx --from 'fonttools[woff]' fonttools varLib.instancer "$whole" wght=400:700 --output src/app/inter-latin.woff2
rm "$whole"
