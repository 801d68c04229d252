#!/bin/sh
# Stands for `sudo`: the steps of a job are root of its root already, which leaves to do what is asked for, as whom.
user=root
group=
login=
shell=
home=
folder=

die() {
    echo "sudo: $1" >&2
    exit 1
}

# An option that has a value, by itself or in the same word.
value() {
    [ $# -ge 2 ] || die "$1 is of something: say what"
}

while [ $# -gt 0 ]; do
    case "$1" in
        --) shift; break ;;
        -u | --user) value "$@"; user=$2; shift 2 ;;
        --user=*) user=${1#*=}; shift ;;
        -u*) user=${1#-u}; shift ;;
        -g | --group) value "$@"; group=$2; shift 2 ;;
        --group=*) group=${1#*=}; shift ;;
        -g*) group=${1#-g}; shift ;;
        -D | --chdir) value "$@"; folder=$2; shift 2 ;;
        --chdir=*) folder=${1#*=}; shift ;;
        -p | -C | -r | -t | -T | -U | -R) value "$@"; shift 2 ;;
        --prompt=* | --close-from=* | --role=* | --type=* | --command-timeout=* | --other-user=*) shift ;;
        -h | --help) echo "sudo: a job of muster is root of its image: sudo [options] [NAME=VALUE …] command"; exit 0 ;;
        -V | --version) echo "sudo: a job of muster is root of its image"; exit 0 ;;
        --login) login=yes; shift ;;
        --shell) shell=yes; shift ;;
        --set-home) home=yes; shift ;;
        # There is nothing to ask for, to remember or to list.
        -v | -k | -K | -l | --validate | --reset-timestamp | --remove-timestamp | --list) exit 0 ;;
        # What of the environment is kept: all.
        --preserve-env* | --non-interactive | --stdin | --background | --askpass | --preserve-groups) shift ;;
        -[AbEHinPSks]*)
            case "$1" in
                -i*) login=yes ;;
                -s*) shell=yes ;;
                -H*) home=yes ;;
            esac
            rest=${1#-?}
            shift
            [ -z "$rest" ] || set -- "-$rest" "$@"
            ;;
        -*) die "$1 is not known to what stands for sudo in a job of muster" ;;
        *) break ;;
    esac
done
while :; do
    case "${1-}" in
        [A-Za-z_]*=*) export "${1?}"; shift ;;
        *) break ;;
    esac
done
# Who it is to be: by name or number, known or not.
number=${user#"#"}
if known=$(grep -m 1 -E "^($number:|[^:]*:[^:]*:$number:)" /etc/passwd); then
    number=$(echo "$known" | cut -d: -f3)
    own=$(echo "$known" | cut -d: -f4)
    its_home=$(echo "$known" | cut -d: -f6)
    its_shell=$(echo "$known" | cut -d: -f7)
else
    case "$number" in *[!0-9]* | '') die "unknown user $user" ;; esac
    own=$number its_home=/ its_shell=
fi
[ -z "$login$home" ] || export HOME="$its_home"
if [ -n "$login$shell" ]; then
    [ -z "$login" ] || folder=${folder:-$its_home}
    program=${its_shell:-/bin/sh}
    [ -n "$login" ] || program=${SHELL:-$program}
    if [ $# -gt 0 ]; then set -- "$program" -c "$*"; else set -- "$program"; fi
elif [ $# -eq 0 ]; then
    die "there is no command"
fi
[ -z "$folder" ] || cd "$folder" || exit 1
if [ "$number" = 0 ] && [ -z "$group" ]; then
    exec "$@"
fi
command -v setpriv >/dev/null 2>&1 ||
    die "to be somebody else takes setpriv, which the image does not have (package util-linux)"
groups=--clear-groups
[ -z "${known-}" ] || [ "$number" = 0 ] || groups=--init-groups
exec setpriv --reuid="$number" --regid="${group:-$own}" "$groups" -- "$@"
