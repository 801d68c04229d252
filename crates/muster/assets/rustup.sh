#!/bin/sh
# rustup for a job of muster. The machine's toolchains are links to what no job can change. One that is to become
# another one is installed anew, as the job's own; what is as it should be stays the machine's.

real="$RUSTUP_HOME/muster/rustup"
toolchains="$RUSTUP_HOME/toolchains"

# Lets go of the machine's toolchains of a name; fails where there are none.
release() {
    released=
    for link in "$toolchains/$1" "$toolchains/$1"-*; do
        [ -L "$link" ] || continue
        rm -f "$link" "$RUSTUP_HOME/update-hashes/${link##*/}"
        released=1
    done
    [ -n "$released" ]
}

# Returns whether a toolchain is meant by what follows the command: named, or nothing is.
is_meant() {
    toolchain=$1 named=
    shift
    for word in "$@"; do
        case $word in
        -* | update | upgrade | install | add | toolchain) ;;
        *)
            named=1
            case $toolchain in "$word" | "$word"-*) return 0 ;; esac
            ;;
        esac
    done
    [ -z "$named" ]
}

case "$1 $2" in
"update "* | "upgrade "* | "install "* | "toolchain install" | "toolchain add" | "toolchain update")
    for outdated in $("$real" check 2>/dev/null | sed -n 's/^\([^ ]*\) - .*[Uu]pdate available.*/\1/p'); do
        if is_meant "$outdated" "$@"; then release "$outdated"; fi
    done
    case " $*" in *" --component"* | *" -c "* | *" --target"* | *" -t "*)
        # One that is up to date may lack it.
        "$real" "$@" && exit
        status=$? any=
        for link in "$toolchains"/*; do
            [ -L "$link" ] && is_meant "${link##*/}" "$@" && release "${link##*/}" && any=1
        done
        if [ -z "$any" ]; then exit "$status"; fi
        echo "muster: what this machine has cannot be changed; the job gets a toolchain of its own" >&2
        ;;
    esac
    ;;
"component add" | "component remove" | "target add" | "target remove")
    "$real" "$@" && exit
    status=$? before= toolchain=
    for word in "$@"; do
        case $before in --toolchain) toolchain=$word ;; esac
        case $word in --toolchain=*) toolchain=${word#--toolchain=} ;; esac
        before=$word
    done
    if [ -z "$toolchain" ]; then toolchain=$("$real" show active-toolchain 2>/dev/null | cut -d ' ' -f 1); fi
    if [ -z "$toolchain" ] || ! release "$toolchain"; then exit "$status"; fi
    echo "muster: the machine's $toolchain cannot be changed; the job gets one of its own" >&2
    "$real" toolchain install --no-self-update --profile minimal "$toolchain" || exit
    ;;
esac
exec "$real" "$@"
