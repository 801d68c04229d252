#!/bin/sh
# Stands for `sudo`: the steps of a job are root of its root already, which leaves to do what is asked for, as whom.
user=root
login=
shell=
folder=
while [ $# -gt 0 ]; do
    case "$1" in
        --) shift; break ;;
        -u | --user) user=$2; shift 2 ;;
        --user=*) user=${1#*=}; shift ;;
        -u*) user=${1#-u}; shift ;;
        -D | --chdir) folder=$2; shift 2 ;;
        --chdir=*) folder=${1#*=}; shift ;;
        -g | -p | -C | -h | -r | -t | -T | -U | -R) shift 2 ;;
        -i | --login) login=yes; shift ;;
        -s | --shell) shell=yes; shift ;;
        -V | --version) echo "sudo: a job of muster is root in its image"; exit 0 ;;
        # There is nothing to ask for, to remember or to list.
        -v | -k | -K | -l | --validate | --reset-timestamp | --remove-timestamp | --list) exit 0 ;;
        # What of the environment is kept: all.
        --preserve-env* | --set-home | --non-interactive | --stdin | --background | --askpass | --preserve-groups) shift ;;
        -[AbEHnPS]*)
            rest=${1#-?}
            shift
            [ -z "$rest" ] || set -- "-$rest" "$@"
            ;;
        -*) echo "sudo: $1 is not known to what stands for sudo in a job of muster" >&2; exit 1 ;;
        *) break ;;
    esac
done
[ -z "$folder" ] || cd "$folder" || exit 1
while :; do
    case "${1-}" in
        [A-Za-z_]*=*) export "${1?}"; shift ;;
        *) break ;;
    esac
done
if [ -n "$login$shell" ]; then
    program=${SHELL:-/bin/sh}
    [ -z "$login" ] || cd ~ 2>/dev/null || :
    if [ $# -gt 0 ]; then set -- "$program" -c "$*"; else set -- "$program"; fi
elif [ $# -eq 0 ]; then
    echo "sudo: there is no command" >&2
    exit 1
fi
case "$user" in
    root | '#0') exec "$@" ;;
    '#'*) user=${user#?} ;;
esac
if command -v setpriv >/dev/null 2>&1; then
    group=$(id -g "$user") || exit 1
    exec setpriv --reuid="$user" --regid="$group" --init-groups -- "$@"
fi
echo "sudo: to be $user takes setpriv, which the image does not have (package util-linux)" >&2
exit 1
