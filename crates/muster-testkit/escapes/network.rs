//! The network, and sockets of every other kind.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::parts::{Parts, call, canary, canary_number, entries, place, text};

const PATIENCE: Duration = Duration::from_millis(300);
const INTERNET: i64 = 2; // AF_INET
const INTERNET_6: i64 = 10;
const NETLINK: i64 = 16;
const STREAM: i64 = 1;
const DATAGRAM: i64 = 2;
const RAW: i64 = 3;
const SEQUENCE: i64 = 5;
/// Where a job may find its machine; user-mode networks show it at the last of these.
const MACHINE: &str = "\
    127.0.0.1 127.0.0.2 0.0.0.0 ::1 ::ffff:127.0.0.1 ::ffff:0.0.0.0 10.0.2.2 10.0.2.3 \
    169.254.1.1 169.254.1.2 10.88.0.1 172.17.0.1 192.168.127.254 fd00::2 fec0::2";
/// Where clouds tell machines their secrets.
const METADATA: &str = "\
    169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 168.63.129.16 \
    192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254";
/// Private, shared, link-local, multicast and public addresses.
const ADDRESSES: &str = "\
    10.0.0.1 10.0.2.2 10.255.255.254 172.16.0.1 172.17.0.2 192.168.0.1 192.168.1.1 100.64.0.1 \
    169.254.1.1 198.18.0.1 224.0.0.251 239.255.255.250 255.255.255.255 1.1.1.1 8.8.8.8 fe80::1 \
    fc00::1 fd00::1 ff02::fb ff05::2 2606:4700:4700::1111 64:ff9b::a00:1 ::ffff:10.0.0.1";
/// Name servers that many machines use.
const SERVERS: &str = "\
    127.0.0.1 127.0.0.11 127.0.0.53 127.0.0.54 ::1 10.0.2.3 169.254.1.1 1.1.1.1 8.8.8.8 \
    9.9.9.9 2606:4700:4700::1111";
/// Sockets of services.
const SOCKETS: &str = "\
    /run/docker.sock /var/run/docker.sock /run/podman/podman.sock /run/crio/crio.sock \
    /run/containerd/containerd.sock /run/buildkit/buildkitd.sock /run/snapd.socket \
    /run/systemd/private /run/systemd/notify /run/systemd/journal/socket \
    /run/systemd/journal/stdout /run/dbus/system_bus_socket /run/udev/control /dev/log \
    /run/libvirt/libvirt-sock /run/lxd.socket /run/acpid.socket /tmp/.X11-unix/X0 \
    /run/muster/control.sock /run/muster.sock /var/lib/muster/control.sock /run/nscd/socket \
    /run/systemd/resolve/io.systemd.Resolve";

/// 20: Opens sockets of families beyond Unix and the Internet, raw ones, and netlink ones for more
/// than routes; and reaches for the settings of interfaces and packet filters.
pub(crate) fn families(parts: &mut Parts) {
    for family in (3..46).filter(|family| ![INTERNET_6, NETLINK].contains(family)) {
        for kind in [STREAM, DATAGRAM, RAW, SEQUENCE] {
            parts.call("socket", 41, &[family, kind, 0]);
            // Most families have no pairs, which the kernel tells after it has made two sockets.
            let name = format!("socketpair({family}, {kind})");
            parts.permission(&name, 53, &[family, kind, 0, place(&mut [0_i32; 2])]);
        }
    }
    for protocol in 1..23 {
        parts.call("socket", 41, &[NETLINK, RAW, protocol]);
        let name = format!("socketpair({NETLINK}, {RAW}, {protocol})");
        parts.permission(&name, 53, &[NETLINK, RAW, protocol, place(&mut [0_i32; 2])]);
    }
    // ICMP, TCP, all; by both versions.
    for protocol in [1, 6, 58, 255] {
        parts.call("socket", 41, &[INTERNET, RAW, protocol]);
        parts.call("socket", 41, &[INTERNET_6, RAW, protocol]);
    }
    let all = 3_i64 << 8; // ETH_P_ALL, in the order of the network
    parts.call("socket(AF_INET, SOCK_PACKET)", 41, &[INTERNET, 10, all]);
    let socket = call("socket", 41, &[INTERNET, DATAGRAM, 0]).unwrap_or(-1);
    let (mut table, mut length) = ([0_u8; 84], [84_u32]);
    table[..6].copy_from_slice(b"filter");
    let option = [socket, 0, 64, place(&mut table), place(&mut length)];
    parts.call("getsockopt(IPT_SO_GET_INFO)", 55, &option);
    // `struct ifreq`: the flags of the loopback, set to what they are.
    let mut interface = [0_u8; 40];
    interface[..2].copy_from_slice(b"lo");
    let _ = call("ioctl(SIOCGIFFLAGS)", 16, &[socket, 0x8913, place(&mut interface)]);
    parts.call("ioctl(SIOCSIFFLAGS)", 16, &[socket, 0x8914, place(&mut interface)]);
}

/// Makes an attempt that supposes that the job has a network of its own.
pub(crate) fn own(parts: &mut Parts, attempt: fn(&mut Parts)) {
    match canary("CANARY_NETWORK").as_deref() {
        Some("yes") => parts.does_not_apply("the job has the machine's network by configuration"),
        _ => attempt(parts),
    }
}

/// 21: Connects to what listens on the machine, by each address that may lead there.
pub(crate) fn loopback(parts: &mut Parts) {
    let Some(port) = canary_number::<u16>("CANARY_PORT") else { return };
    let lan = canary_number("CANARY_LAN");
    for address in MACHINE.split(' ').filter_map(|text| text.parse().ok()).chain(lan) {
        connects(parts, SocketAddr::new(address, port));
    }
    const MULTIPATH: i64 = 262;
    let port = port.to_be_bytes();
    let mut address = [2, 0, port[0], port[1], 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0_u8];
    let socket = call("socket(multipath)", 41, &[INTERNET, STREAM, MULTIPATH]).unwrap_or(-1);
    parts.call("connect(multipath)", 42, &[socket, place(&mut address), 16]);
    let socket = call("socket", 41, &[INTERNET, STREAM, 0]).unwrap_or(-1);
    let fast_open = [socket, text(c"x"), 1, 0x2000_0000, place(&mut address), 16];
    parts.call("sendto(MSG_FASTOPEN)", 44, &fast_open);
}

/// 22: Connects to where clouds tell machines their secrets.
///
/// That a proxy does not lead there cannot be seen here: there is no proxy yet.
pub(crate) fn metadata(parts: &mut Parts) {
    for address in METADATA.split(' ') {
        connects(parts, SocketAddr::new(address.parse().expect("a literal"), 80));
    }
}

/// 23: Looks for a way to private, link-local, multicast and public addresses.
///
/// A datagram socket that connects sends nothing, but needs a route. What listens inside cannot try
/// itself whether a neighbour reaches it.
pub(crate) fn neighbours(parts: &mut Parts) {
    let lan = canary_number::<IpAddr>("CANARY_LAN");
    for address in ADDRESSES.split(' ').filter_map(|text| text.parse().ok()).chain(lan) {
        let routed = datagrams(SocketAddr::new(address, 9)).is_ok();
        parts.check(format!("has a route to {address}"), routed);
    }
}

/// 24: Sends a query to every name server that is set or known, and waits for an answer.
///
/// That names do not come to mean other addresses (rebinding) is for a proxy to see to: there is
/// none yet.
pub(crate) fn names(parts: &mut Parts) {
    let settings = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let set = settings.lines().filter_map(|line| line.strip_prefix("nameserver"));
    for server in
        set.chain(SERVERS.split(' ')).filter_map(|text| text.trim().parse::<IpAddr>().ok())
    {
        let server = SocketAddr::new(server, 53);
        let answer = ask(server);
        // On a loopback of our own a query goes nowhere, so only an answer counts.
        let left =
            answer.is_ok() && (!server.ip().is_loopback() || answer.is_ok_and(|size| size > 0));
        parts.check(format!("asked {server}"), left);
        connects(parts, server);
    }
}

/// Returns a socket for datagrams to an address, if there is a route.
fn datagrams(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_broadcast(true)?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends a query; returns how long the answer is, 0 when none comes.
fn ask(server: SocketAddr) -> std::io::Result<usize> {
    let socket = datagrams(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // One question with recursion: the address of `escape.example.com`.
    let head = [0_u8, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let query = [&head[..], b"\x06escape\x07example\x03com\0", &[0, 1, 0, 1]].concat();
    socket.send(&query)?;
    Ok(socket.recv(&mut [0; 512]).unwrap_or(0))
}

/// 25: Connects to Unix sockets of others, by path and without one.
pub(crate) fn unix(parts: &mut Parts) {
    let home = PathBuf::from(std::env::var("HOME").unwrap_or_default());
    let mut paths: Vec<PathBuf> = SOCKETS.split(' ').map(PathBuf::from).collect();
    let set = ["SSH_AUTH_SOCK", "CANARY_SOCKET"].into_iter().filter_map(canary);
    paths.extend(set.map(PathBuf::from));
    paths.extend([".gnupg/S.gpg-agent", ".gnupg/S.gpg-agent.ssh"].map(|name| home.join(name)));
    for user in entries("/run/user") {
        let folder = Path::new("/run/user").join(user);
        let names =
            ["bus", "systemd/private", "podman/podman.sock", "docker.sock", "gnupg/S.gpg-agent"];
        paths.extend(names.map(|name| folder.join(name)));
    }
    for path in paths {
        unix_path(parts, &path);
    }
    let mut names = vec!["/tmp/.X11-unix/X0".to_owned(), "/org/kernel/udev/monitor".to_owned()];
    names.extend(canary("CANARY_ABSTRACT"));
    // Those of container engines have names that cannot be guessed, but are listed
    // (CVE-2020-15257).
    let listed = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let listed = listed.lines().filter_map(|line| line.split_once('@').map(|(_, name)| name));
    let engine = |name: &&str| name.starts_with("/containerd-shim") || name.starts_with("/tmp/");
    names.extend(listed.filter(engine).map(str::to_owned));
    for name in names {
        let Ok(address) = UnixAddress::from_abstract_name(&name) else { continue };
        parts.check(format!("connected to @{name}"), UnixStream::connect_addr(&address).is_ok());
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"", &address));
        parts.check(format!("sent to @{name}"), sent.is_ok());
    }
}

fn unix_path(parts: &mut Parts, path: &Path) {
    parts.check(format!("connected to {}", path.display()), UnixStream::connect(path).is_ok());
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    parts.check(format!("connected a datagram socket to {}", path.display()), connected.is_ok());
}

fn connects(parts: &mut Parts, address: SocketAddr) {
    let connected = TcpStream::connect_timeout(&address, PATIENCE);
    parts.check(format!("connected to {address}"), connected.is_ok());
}
