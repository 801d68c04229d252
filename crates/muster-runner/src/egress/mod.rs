//! What of the world a job reaches that has no network of this machine: hosts that are named, through a proxy.
//!
//! The job has a network of its own in which there is one door. What comes to it as to a proxy is judged here, by the name that
//! is asked for and by the addresses that this is; all else that comes goes to the services for actions.

mod proxy;

pub(crate) use self::proxy::{PATIENCE, is_for_a_proxy, more, serve};

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The ports of a host that is named without one.
const USUAL: [u16; 2] = [80, 443];
/// So many names are remembered of each kind.
const MOST: usize = 200;
/// Where programs look for the proxy, in both forms that there are.
const VARIABLES: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// What of the world a job reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing but the services for actions.
    #[default]
    None,
    /// All that this machine reaches, and this machine.
    Open,
    /// The hosts that are named, by the protocols that go through a proxy.
    Only(Vec<Hosts>),
}

impl Network {
    /// Returns whether it is this machine's network.
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

/// Hosts that a job may reach: `HOST` is one, `*.DOMAIN` all below a domain; with `:PORT` at that port, else at 80 and
/// 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hosts {
    /// In small letters, without a dot at its end.
    name: String,
    is_domain: bool,
    port: Option<u16>,
}

impl Hosts {
    /// Returns whether a host is one of them, whose name is in small letters and without a dot at its end.
    fn hold(&self, host: &str, port: u16) -> bool {
        let is_name = match self.is_domain {
            true => host.strip_suffix(&self.name).is_some_and(|rest| rest.ends_with('.')),
            false => host == self.name,
        };
        is_name && self.port.map_or_else(|| USUAL.contains(&port), |own| own == port)
    }
}

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("`{text}`: {why}; write HOST, *.DOMAIN, or either with :PORT");
        let (host, port) = split(text).ok_or_else(|| wrong("that is no host and port"))?;
        let (name, is_domain) = match host.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (&*host, false),
        };
        let is_address = name.parse::<IpAddr>().is_ok();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || (!is_address && !name.chars().all(plain)) {
            return Err(wrong("that is no name of a host"));
        }
        if is_domain && (is_address || !name.contains('.')) {
            return Err(wrong("that is no domain of somebody's"));
        }
        Ok(Self { name: name.to_owned(), is_domain, port })
    }
}

impl TryFrom<String> for Hosts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Hosts> for String {
    fn from(hosts: Hosts) -> Self {
        hosts.to_string()
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.is_domain { "*." } else { "" };
        match (self.name.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.name),
            (_, Some(port)) => write!(f, "{below}{}:{port}", self.name),
            (_, None) => write!(f, "{below}{}", self.name),
        }
    }
}

/// Takes `HOST[:PORT]` apart, an IPv6 address being in brackets where a port follows. The host is in small letters,
/// without a dot at its end.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let plain = |host: &str| host.trim_end_matches('.').to_ascii_lowercase();
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = rest.strip_prefix(':').map(str::parse).transpose().ok()?;
        return (rest.is_empty() || port.is_some()).then(|| (plain(host), port));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((plain(text), None));
    }
    match text.split_once(':') {
        None => Some((plain(text), None)),
        Some((host, port)) => Some((plain(host), Some(port.parse().ok()?))),
    }
}

/// What a job may reach, and what it has tried.
#[derive(Debug, Default)]
pub(crate) struct Egress {
    allowed: Vec<Hosts>,
    tried: Mutex<Tried>,
}

/// What a job has tried to reach.
#[derive(Debug, Default)]
struct Tried {
    reached: BTreeSet<String>,
    refused: BTreeSet<String>,
}

/// Why something is not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "{0} is not among the hosts that this job may reach (`[sandbox] network`, `--allow-host`)"
    )]
    NotNamed(String),
    #[error(
        "{0} is an address of this machine or its surroundings; name that host alone to let jobs reach it"
    )]
    Inward(String),
    #[error("{0} is not found: {1}")]
    NotFound(String, std::io::Error),
}

impl Egress {
    /// Returns what a job may reach that reaches some hosts.
    pub(crate) fn of(network: &Network) -> Option<Self> {
        match network {
            Network::Only(allowed) => Some(Self { allowed: allowed.clone(), ..Self::default() }),
            Network::None | Network::Open => None,
        }
    }

    /// Returns the variables by which programs find the proxy at a port of their own loopback.
    pub(crate) fn variables(port: u16) -> impl Iterator<Item = (String, String)> {
        let proxy = format!("http://127.0.0.1:{port}");
        let proxies = VARIABLES.into_iter().map(move |name| (name.to_owned(), proxy.clone()));
        // What is there itself needs no proxy: the services for actions, what other steps have started.
        let own = ["no_proxy", "NO_PROXY"]
            .map(|name| (name.to_owned(), "localhost,127.0.0.1,::1".to_owned()));
        proxies.chain(own)
    }

    /// Finds the addresses of a host that the job may reach.
    ///
    /// # Errors
    ///
    /// When it may not, or there are none.
    fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        let found = self.look_up(host, port);
        let mut tried = self.tried();
        let seen = if found.is_ok() { &mut tried.reached } else { &mut tried.refused };
        if seen.len() < MOST {
            seen.insert(named(host, port));
        }
        found
    }

    /// Returns whether a connection that was made is to the machine itself, by an address that does not show it, which only
    /// who names that may reach.
    fn is_own(host: &str, from: IpAddr, to: IpAddr) -> bool {
        from == to && !is_own_name(host)
    }

    fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
        let asked = named(host, port);
        let by = self.allowed.iter().filter(|hosts| hosts.hold(host, port));
        // Who names one host alone means it, wherever it is.
        let Some(is_meant) = by.map(|hosts| !hosts.is_domain).max() else {
            return Err(Refused::NotNamed(asked));
        };
        let all = (host, port).to_socket_addrs();
        let all: Vec<_> = all.map_err(|error| Refused::NotFound(asked.clone(), error))?.collect();
        let reached = |address: &SocketAddr| match side(address.ip()) {
            Side::World => true,
            Side::Private => is_meant,
            Side::Own => is_meant && is_own_name(host),
            Side::Link => false,
        };
        let some: Vec<_> = all.into_iter().filter(reached).collect();
        if some.is_empty() { Err(Refused::Inward(asked)) } else { Ok(some) }
    }

    /// Says what was reached, and what was refused; nothing where nothing was tried.
    pub(crate) fn told(&self) -> Option<String> {
        let tried = self.tried();
        let list = |what: &str, names: &BTreeSet<String>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let told = [list("reached", &tried.reached), list("refused", &tried.refused)];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| format!("Network: {}", told.join("; ")))
    }

    fn tried(&self) -> MutexGuard<'_, Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(host: &str, port: u16) -> String {
    let bracketed = host.contains(':');
    if bracketed { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Returns whether a name is that of the machine it is used on.
fn is_own_name(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| side(address) == Side::Own)
}

/// On which side of this machine an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The Internet.
    World,
    /// A network of somebody's own.
    Private,
    /// This machine.
    Own,
    /// What is not routed, such as the services that clouds tell machines their secrets by.
    Link,
}

/// Returns on which side an address is, by the registries of
/// [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry) and
/// [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry).
fn side(address: IpAddr) -> Side {
    match address {
        IpAddr::V4(address) => side_of_4(address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            let last = || {
                let [.., a, b] = segments;
                let [[a, b], [c, d]] = [a.to_be_bytes(), b.to_be_bytes()];
                Ipv4Addr::new(a, b, c, d)
            };
            match segments {
                [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Side::Own,
                // An address of the older kind in the newer one's form, or translated.
                [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => side_of_4(last()),
                // Of clouds, in their own network.
                [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
                    Side::Link
                }
                [first, ..] if first & 0xfe00 == 0xfc00 => Side::Private,
                // The Internet so far; tunnels lead to addresses of the older kind.
                [first, ..] if first & 0xe000 == 0x2000 && !matches!(first, 0x2002) => {
                    let is_tunnel = segments[0] == 0x2001 && segments[1] < 0x200;
                    if is_tunnel { Side::Link } else { Side::World }
                }
                _ => Side::Link,
            }
        }
    }
}

fn side_of_4(address: Ipv4Addr) -> Side {
    match address.octets() {
        [127 | 0, ..] => Side::Own,
        // What clouds tell their machines their secrets by, in places of their own.
        [168, 63, 129, 16] | [100, 100, 100, 200] => Side::Link,
        [10, ..] | [192, 168, ..] => Side::Private,
        [172, second, ..] if second & 0xf0 == 16 => Side::Private,
        [100, second, ..] if second & 0xc0 == 64 => Side::Private,
        [169, 254, ..] | [192, 0, 0, _] | [224..=255, ..] => Side::Link,
        [198, 18 | 19, ..] => Side::Private,
        _ => Side::World,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn egress(hosts: &[&str]) -> Egress {
        let hosts = hosts.iter().map(|hosts| hosts.parse().unwrap()).collect();
        Egress::of(&Network::Only(hosts)).unwrap()
    }

    #[test]
    fn hosts_are_named_alone_or_by_their_domain() {
        let egress =
            egress(&["crates.io", "*.Example.com", "git.example.org:2222", "[2001:db8::1]:8080"]);
        let holds = |host: &str, port| egress.allowed.iter().any(|hosts| hosts.hold(host, port));
        assert!(holds("crates.io", 443) && holds("crates.io", 80) && !holds("crates.io", 22));
        assert!(holds("a.b.example.com", 443) && !holds("example.com", 443));
        assert!(!holds("evilexample.com", 443) && !holds("static.crates.io", 443));
        assert!(holds("git.example.org", 2222) && !holds("git.example.org", 443));
        assert!(holds("2001:db8::1", 8080));
        let shown: Vec<String> = egress.allowed.iter().map(Hosts::to_string).collect();
        assert_eq!(
            shown,
            ["crates.io", "*.example.com", "git.example.org:2222", "[2001:db8::1]:8080"]
        );
        for wrong in ["", "*", "*.com", "a b", "a:b", "http://a", "*.1.2.3.4", "a:70000"] {
            assert!(wrong.parse::<Hosts>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_leads_inward_that_is_not_named_alone() {
        let world = ["1.1.1.1", "2606:4700::1", "::ffff:1.1.1.1"];
        let private = ["10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1", "fd12::1"];
        let own = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"];
        let link = [
            "168.63.129.16",
            "100.100.100.200",
            "fd20:ce::254",
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "2002:a00:1::1",
            "2001:0::1",
            "224.0.0.1",
            "255.255.255.255",
            "::ffff:169.254.169.254",
            "ff02::1",
        ];
        for (all, expected) in [
            (&world[..], Side::World),
            (&private, Side::Private),
            (&own, Side::Own),
            (&link, Side::Link),
        ] {
            for address in all {
                assert_eq!(side(address.parse().unwrap()), expected, "{address}");
            }
        }
        // Addresses are found without asking anybody.
        let asked = |hosts: &[&str], host: &str| match egress(hosts).addresses(host, 443) {
            Ok(found) => format!("{found:?}"),
            Err(why) => why.to_string(),
        };
        assert_eq!(asked(&["10.0.0.1"], "10.0.0.1"), "[10.0.0.1:443]");
        assert_eq!(asked(&["127.0.0.1"], "127.0.0.1"), "[127.0.0.1:443]");
        assert!(
            asked(&["169.254.169.254"], "169.254.169.254")
                .contains("is an address of this machine")
        );
        assert!(asked(&["10.0.0.1"], "10.0.0.2").contains("is not among the hosts"));
    }

    proptest! {
        #[test]
        fn texts_never_panic(text in "[a-z0-9.:*\\[\\]-]{0,24}", address in any::<[u8; 16]>()) {
            drop(text.parse::<Hosts>());
            let _ = side(IpAddr::from(address));
        }
    }
}
