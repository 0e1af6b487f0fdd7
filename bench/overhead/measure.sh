# Sourced by the scripts beside it, inside a RUN, a chroot or proot. `measured
# NAME COMMAND…` tells bench/overhead.py when the command starts and when it is
# done; whoever listens adds up the processor time of all processes meanwhile.
. /scripts/settings

measured() {
    local name=$1
    shift
    tell "start $name"
    "$@" >/tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
    tell "stop $name"
}

tell() {
    exec 3<>"/dev/tcp/127.0.0.1/$PORT"
    echo "$1" >&3
    read -r _ <&3
    exec 3>&-
}
