# Shell functions for the demo and the benchmark: base images made on this
# machine and a registry on loopback. Source it; it runs nothing by itself.
#
# Nothing here needs root except the debootstrap fallback. The package sources
# of the machine are read when a base is made and are stored nowhere else.

# oci_image LAYOUT TAG LAYER.tar ENV-JSON CMD-JSON
# Writes a one-layer image into the OCI layout directory LAYOUT.
oci_image() {
    local layout=$1 tag=$2 tar=$3 env=$4 cmd=$5 blobs=$1/blobs/sha256
    local diff_id layer layer_size config config_size manifest manifest_size architecture
    architecture=$(dpkg --print-architecture)
    mkdir -p "$blobs"
    diff_id=$(sha256sum <"$tar" | cut -d' ' -f1)
    gzip -n -1 <"$tar" >"$blobs/layer"
    layer=$(oci_blob "$blobs" layer); layer_size=$(stat -c %s "$blobs/$layer")
    printf '{"created":"1970-01-01T00:00:00Z","architecture":"%s","os":"linux","config":{"Env":%s,"Cmd":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"base made on this machine"}]}' \
        "$architecture" "$env" "$cmd" "$diff_id" >"$blobs/config"
    config=$(oci_blob "$blobs" config); config_size=$(stat -c %s "$blobs/$config")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
        "$config" "$config_size" "$layer" "$layer_size" >"$blobs/manifest"
    manifest=$(oci_blob "$blobs" manifest); manifest_size=$(stat -c %s "$blobs/$manifest")
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
        "$manifest" "$manifest_size" "$tag" >"$layout/index.json"
}

# Renames a file of the blob directory to its digest and prints the hex digits.
oci_blob() {
    local hex
    hex=$(sha256sum <"$1/$2" | cut -d' ' -f1)
    mv "$1/$2" "$1/$hex"
    printf %s "$hex"
}

# debian_sources: the files with this machine's sources of Debian 12. Other
# vendors' need keys that a new root does not have.
debian_sources() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [ -s "$file" ] && grep -q '^[^#].*bookworm' "$file" && grep -q debian "$file"; then
            printf '%s\n' "$file"
        fi
    done
}

# debian_tar OUT.tar: a minimal Debian 12 root file system from Debian packages,
# with the package sources and apt settings of this machine in it, so that
# `apt-get update` works in a RUN wherever it works here.
debian_tar() {
    local out=$1 work sources=() file
    work=$(mktemp -d "${TMPDIR:-/tmp}/coracle-base.XXXXXX")
    # docker-clean and its kin delete the packages that are being installed.
    for file in /etc/apt/apt.conf.d/*; do
        case ${file##*/} in
            *docker-* | 70debconf | *packagekit | *appstream | *listchanges | 20listchanges) ;;
            *) cat "$file" >>"$work/apt.conf"; echo >>"$work/apt.conf" ;;
        esac
    done
    mapfile -t sources < <(debian_sources)
    if command -v mmdebstrap >/dev/null && mmdebstrap_unshare "$out" "$work" "${sources[@]}"; then
        rm -rf "$work"
        return 0
    fi
    debootstrap_root "$out" "$work" "${sources[@]}"
    rm -rf "$work"
}

mmdebstrap_unshare() {
    local out=$1 work=$2 mode=unshare
    shift 2
    [ "$(id -u)" = 0 ] && mode=root
    mmdebstrap --quiet --mode=$mode --variant=minbase --aptopt="$work/apt.conf" \
        --include=ca-certificates --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        bookworm "$out" "$@" >&2
}

# Needs root: device nodes and chroot.
debootstrap_root() {
    local out=$1 work=$2 sudo= mirror
    shift 2
    [ "$(id -u)" = 0 ] || sudo=sudo
    mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' "$@" | head -n 1)
    $sudo debootstrap --variant=minbase --include=ca-certificates bookworm "$work/root" "$mirror" >&2
    $sudo cp "$@" "$work/root/etc/apt/sources.list.d/" 2>/dev/null || true
    $sudo cp "$work/apt.conf" "$work/root/etc/apt/apt.conf.d/99host"
    $sudo tar --numeric-owner --xattrs -C "$work/root" -cf - . >"$out"
    $sudo rm -rf "$work/root"
}

# busybox_tar OUT.tar: busybox-static with its links, a merged /usr, a sticky
# /tmp and a home directory of another owner: what a COPY must leave alone.
busybox_tar() {
    local out=$1 work name
    work=$(mktemp -d "${TMPDIR:-/tmp}/coracle-base.XXXXXX")
    mkdir -p "$work"/{usr/bin,usr/lib,etc,tmp,var/tmp,root,home/app,proc,sys,dev,run}
    cp /bin/busybox "$work/usr/bin/busybox"
    ln -s usr/bin "$work/bin"
    ln -s usr/bin "$work/sbin"
    ln -s usr/lib "$work/lib"
    for name in $(/bin/busybox --list); do
        [ "$name" = busybox ] || ln "$work/usr/bin/busybox" "$work/usr/bin/$name"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n' >"$work/etc/passwd"
    printf 'root:x:0:\napp:x:1000:\n' >"$work/etc/group"
    chmod 1777 "$work/tmp" "$work/var/tmp"
    chmod 0700 "$work/root"
    chmod 0750 "$work/home/app"
    chmod 0755 "$work"
    tar --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 --exclude=./home/app -C "$work" -cf "$out" .
    tar --mtime=@0 --numeric-owner --owner=1000 --group=1000 -C "$work" -rf "$out" ./home/app
    rm -rf "$work"
}

# base_layout DIRECTORY NAME: the layout of `debian` or `busybox`, made once.
base_layout() {
    local directory=$1 name=$2
    [ -s "$directory/$name/index.json" ] && return 0
    mkdir -p "$directory"
    rm -rf "$directory/$name" "$directory/$name.tar" "$directory/$name.new"
    case $name in
        debian)
            debian_tar "$directory/$name.tar"
            oci_image "$directory/$name.new" latest "$directory/$name.tar" \
                '["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]' '["bash"]'
            ;;
        busybox)
            busybox_tar "$directory/$name.tar"
            oci_image "$directory/$name.new" latest "$directory/$name.tar" \
                '["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]' '["sh"]'
            ;;
    esac
    rm -f "$directory/$name.tar"
    mv "$directory/$name.new" "$directory/$name"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_registry DIRECTORY PORT [HTPASSWD]: Debian's docker-registry, on loopback
# only; sets REGISTRY_PID. Stop it with `kill "$REGISTRY_PID"`.
start_registry() {
    local directory=$1 port=$2 htpasswd=${3:-} tries=0
    mkdir -p "$directory/storage"
    {
        printf 'version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n'
        printf 'storage: {filesystem: {rootdirectory: "%s/storage"}}\n' "$directory"
        printf 'http: {addr: "127.0.0.1:%s"}\n' "$port"
        [ -z "$htpasswd" ] || printf 'auth: {htpasswd: {realm: coracle, path: "%s"}}\n' "$htpasswd"
    } >"$directory/config.yml"
    docker-registry serve "$directory/config.yml" >"$directory/log" 2>&1 &
    REGISTRY_PID=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ] || ! kill -0 "$REGISTRY_PID" 2>/dev/null; then
            echo "docker-registry does not start:" >&2
            cat "$directory/log" >&2
            return 1
        fi
        sleep 0.1
    done
}
