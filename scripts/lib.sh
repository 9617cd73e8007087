# Shared by scripts/run, scripts/test and scripts/bench: installs what is missing where it may, and says
# exactly what to do where it may not. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The Debian package that brings a command.
package_of() {
    case $1 in
        cc) echo gcc libc6-dev ;;
        node) echo nodejs ;;
        pebble-challtestsrv) echo pebble ;;
        h2load | nghttp) echo nghttp2-client ;;
        testssl) echo testssl.sh bsdextrautils ;;
        nghttpd) echo nghttp2-server ;;
        taskset) echo util-linux ;;
        sysctl) echo procps ;;
        systemd-analyze) echo systemd ;;
        cargo | rustc) echo cargo rustc ;;
        *) echo "$1" ;;
    esac
}

# have COMMAND: whether it is there, also in the places that a plain user's PATH leaves out.
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root; fails when that is not allowed without a question.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    else
        return 1
    fi
}

# need COMMAND...: makes sure that each is there.
need() {
    local missing=() packages=() command
    for command in "$@"; do
        have "$command" && continue
        missing+=("$command")
        # shellcheck disable=SC2046
        packages+=($(package_of "$command"))
    done
    [ ${#missing[@]} = 0 ] && return 0
    install_packages "${missing[*]}" "${packages[@]}" || exit 1
    for command in "${missing[@]}"; do
        have "$command" || die "$command is still missing after installing ${packages[*]}"
    done
}

# need_file PATH PACKAGE: makes sure that a file is there which is no command.
need_file() {
    [ -e "$1" ] && return 0
    install_packages "$1" "$2" || exit 1
    [ -e "$1" ] || die "$1 is still missing after installing $2"
}

# install_packages WHAT PACKAGE...: installs Debian packages; fails, and says what to do, where it may not.
install_packages() {
    local by_hand="Missing: $1. Please run: sudo apt-get install --no-install-recommends ${*:2}"
    have apt-get || { say "$by_hand (or your distribution's packages of these names)"; return 1; }
    export DEBIAN_FRONTEND=noninteractive
    # An installed nginx or haproxy package must not start a service: only what a script starts may listen.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e $policy ] && as_root sh -c "printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy"; then
        made_policy=1
    fi
    say "Installing ${*:2} ..."
    { as_root apt-get update -qq && as_root apt-get install -qq -y --no-install-recommends "${@:2}"; } >&2
    local ended=$?
    [ -z "$made_policy" ] || as_root rm -f $policy
    [ $ended = 0 ] || { say "$by_hand"; return 1; }
}

# The cargo-deny that is built where there is none.
deny_wanted=0.20.2

# need_cargo_deny: makes sure that `cargo deny` is there. Without optimization it builds in a minute or two, once.
need_cargo_deny() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/ringgate/cargo-deny-$deny_wanted
    PATH="$PATH:$home/bin"
    cargo deny --version >/dev/null 2>&1 && return 0
    say "Building cargo-deny $deny_wanted into $home ..."
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_TARGET_DIR=$home/build \
        cargo install --quiet --locked --root "$home" --version "$deny_wanted" cargo-deny >&2 \
        || die "cargo-deny could not be built. Please run: cargo install --locked cargo-deny"
    rm -rf "$home/build"
}

# The oldest Rust that builds this, from Cargo.toml.
rust_wanted() { sed -n 's/^rust-version *= *"\(.*\)".*/\1/p' "$root/Cargo.toml"; }

# rust_is_enough: whether the cargo that is found is new enough.
rust_is_enough() {
    have cargo && have rustc || return 1
    local has
    has=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$has" ] && [ "$(printf '%s\n%s\n' "$(rust_wanted)" "$has" | sort -V | head -n 1)" = "$(rust_wanted)" ]
}

# need_rust: makes sure that there is a cargo that can build this.
need_rust() {
    need cc
    if [ -x "$HOME/.cargo/bin/cargo" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
    rust_is_enough && return 0
    # rustup, if it is there without a toolchain, or with an old one.
    if have rustup && rustup toolchain install stable --profile minimal -c clippy -c rustfmt >&2; then
        RUSTUP_TOOLCHAIN=stable
        export RUSTUP_TOOLCHAIN
        rust_is_enough && return 0
    fi
    # Debian 13 and Ubuntu package rustup; the distribution's own rustc is older than what is wanted.
    if have apt-get && as_root apt-get update -qq >&2 \
        && as_root apt-get install -qq -y --no-install-recommends rustup >&2 \
        && rustup toolchain install stable --profile minimal -c clippy -c rustfmt >&2; then
        RUSTUP_TOOLCHAIN=stable
        export RUSTUP_TOOLCHAIN
        rust_is_enough && return 0
    fi
    # Last, rustup's own installer, which needs no package and no root.
    need curl
    say "Installing Rust with rustup into $HOME/.cargo ..."
    if curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs \
        | sh -s -- -y -q --no-modify-path --profile minimal -c clippy -c rustfmt >&2; then
        PATH="$HOME/.cargo/bin:$PATH"
        rust_is_enough && return 0
    fi
    die "Rust $(rust_wanted) or newer is needed and could not be installed. See https://rustup.rs, then run this again."
}

# need_httpx: makes sure that there is a Python that speaks HTTP/2, in the same folder.
need_httpx() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/ringgate
    [ -x "$home/python/bin/python" ] || python3 -m venv "$home/python" >&2 \
        || { as_root apt-get install -qq -y --no-install-recommends python3-venv >&2 \
            && python3 -m venv "$home/python" >&2; } \
        || die "Python's venv is needed. Please run: sudo apt-get install python3-venv"
    "$home/python/bin/python" -c 'import httpx, h2' 2>/dev/null && return 0
    say "Installing Python's httpx into $home/python ..."
    "$home/python/bin/pip" -q install 'httpx[http2]' websockets >&2 \
        || die "httpx could not be installed. Please run: $home/python/bin/pip install 'httpx[http2]'"
}

# need_websockets: makes sure that there are a Python and a Node that speak WebSocket, in a folder of their own.
need_websockets() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/ringgate
    if ! python3 -c 'import websockets.sync.client' 2>/dev/null \
        && ! "$home/python/bin/python" -c 'import websockets.sync.client' 2>/dev/null; then
        say "Installing Python's websockets into $home/python ..."
        { python3 -m venv "$home/python" \
            || { as_root apt-get install -qq -y --no-install-recommends python3-venv \
                && python3 -m venv "$home/python"; }; } >&2 \
            && "$home/python/bin/pip" -q install websockets >&2 \
            || die "websockets could not be installed. Please run: pip install websockets"
    fi
    if ! NODE_PATH=$home/node/node_modules:/usr/share/nodejs node -e 'require("ws")' 2>/dev/null; then
        say "Installing Node's ws ..."
        if have npm; then
            npm install --silent --no-audit --no-fund --prefix "$home/node" ws >&2
        else
            as_root apt-get install -qq -y --no-install-recommends node-ws >&2
        fi || die "ws could not be installed. Please run: npm install --prefix $home/node ws"
    fi
}

# need_grpcio: makes sure that there is a Python that speaks gRPC, in a folder of its own.
need_grpcio() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/ringgate
    python3 -c 'import grpc' 2>/dev/null && return 0
    "$home/python/bin/python" -c 'import grpc' 2>/dev/null && return 0
    say "Installing Python's grpcio into $home/python ..."
    [ -x "$home/python/bin/pip" ] || python3 -m venv "$home/python" >&2 \
        || { as_root apt-get install -qq -y --no-install-recommends python3-venv \
            && python3 -m venv "$home/python"; } >&2 \
        || die "Python cannot make the folder $home/python. Please run: sudo apt-get install python3-venv"
    "$home/python/bin/pip" -q install grpcio >&2 \
        || die "grpcio could not be installed. Please run: $home/python/bin/pip install grpcio"
}

# need_oidc_provider: makes sure that there is an OpenID provider for Node, in the folder of its modules.
need_oidc_provider() {
    local home=${XDG_CACHE_HOME:-$HOME/.cache}/ringgate
    [ -e "$home/node/node_modules/oidc-provider/lib/index.js" ] && return 0
    say "Installing Node's oidc-provider into $home/node ..."
    have npm || need npm
    npm install --silent --no-audit --no-fund --prefix "$home/node" oidc-provider@8 >&2 \
        || say "oidc-provider could not be installed; the tests of logins will say that they are skipped. Please run: npm install --prefix $home/node oidc-provider@8"
}
