//! Who calls, and by which address: also behind a proxy, when the configuration names it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;
use serde::Deserialize;

use super::error::Problem;
use crate::loops::Shared;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(SocketAddr);

impl Peer {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| format!("`{text}` is no address and no network"))
    }
}

/// Where a request comes from, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The nearest address that is no proxy of ours.
    pub(super) address: IpAddr,
    /// Whether something between that is not named as a proxy has passed the request on.
    pub(super) forwarded: bool,
    /// The scheme and host that the caller used.
    pub(super) origin: Option<String>,
}

impl Caller {
    fn of(peer: IpAddr, headers: &HeaderMap, tls: bool, proxies: &[Network]) -> Self {
        let trusted = |address: &IpAddr| proxies.iter().any(|proxy| proxy.0.contains(address));
        let peer = peer.to_canonical();
        let through_proxy = trusted(&peer);
        let mut address = peer;
        // What cannot be read, or is not looked into, says nothing but that somebody is in between.
        let unread = |value: &HeaderValue| value.to_str().is_err();
        let mut forwarded = headers.contains_key("forwarded")
            || headers.get_all("x-forwarded-for").iter().any(unread);
        // Each proxy adds the address that it was called from at the end; what stands before the first
        // stranger, from the end, is the stranger's own word.
        let given = headers.get_all("x-forwarded-for").iter();
        let given: Vec<&str> = given
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for name in given.iter().rev() {
            if !trusted(&address) {
                forwarded = true;
                break;
            }
            match name.trim().parse::<IpAddr>() {
                Ok(named) => address = named.to_canonical(),
                Err(_) => {
                    forwarded = true;
                    break;
                }
            }
        }
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            Some(value.rsplit(',').next()?.trim().to_owned())
        };
        let own = if tls { "https" } else { "http" };
        let told = |name: &str| if through_proxy { last(name) } else { None };
        let scheme = told("x-forwarded-proto").unwrap_or_else(|| own.to_owned());
        let host = told("x-forwarded-host").or_else(|| last(header::HOST.as_str()));
        Self { address, forwarded, origin: host.map(|host| format!("{scheme}://{host}")) }
    }

    /// Returns whether the caller is on this machine, as far as anybody can tell: also by the name that it
    /// calls us, for a browser here may be led by a page of somebody else.
    pub(super) fn is_local(&self) -> bool {
        let host = self.origin.as_deref().and_then(|origin| origin.split_once("://"));
        let host = host.map_or("", |(_, host)| host);
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let named_so = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
        self.address.is_loopback() && !self.forwarded && named_so
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let ConnectInfo(Peer(peer)) = ConnectInfo::<Peer>::from_request_parts(parts, shared)
            .await
            .map_err(|error| anyhow::anyhow!("a connection without an address: {error}"))?;
        let config = &shared.config;
        Ok(Self::of(peer.ip(), &parts.headers, config.tls.is_some(), &config.trusted_proxies))
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn caller(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies = ["127.0.0.1", "10.0.0.0/8"];
        let proxies = proxies.map(|proxy| Network::try_from(proxy.to_owned()).unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let caller = Caller::of(peer.parse().unwrap(), &map, false, &proxies);
        let local = if caller.is_local() { " local" } else { "" };
        format!("{} {}{local}", caller.address, caller.origin.unwrap_or_default())
    }

    #[test]
    fn only_named_proxies_are_believed() {
        let host = ("host", "localhost:4567");
        let from = |addresses| ("x-forwarded-for", addresses);
        let proto = ("x-forwarded-proto", "https");
        let outside = ("x-forwarded-host", "ci.example.org");
        let said = [
            caller("192.0.2.9", &[host]),
            caller("192.0.2.9", &[host, from("127.0.0.1"), proto, outside]),
            caller("127.0.0.1", &[host]),
            caller("127.0.0.1", &[host, from("192.0.2.9"), proto, outside]),
            caller("127.0.0.1", &[host, from("127.0.0.1, 192.0.2.9")]),
            caller("127.0.0.1", &[host, from("192.0.2.9, 10.1.1.1")]),
            caller("127.0.0.1", &[host, from("192.0.2.9"), from("10.1.1.1")]),
            caller("::ffff:127.0.0.1", &[host, from("10.1.1.1")]),
            caller("127.0.0.1", &[host, from("nonsense")]),
            caller("::1", &[host, from("127.0.0.1")]),
            caller("::1", &[host, ("forwarded", "for=192.0.2.9")]),
            caller("127.0.0.1", &[host, ("forwarded", "for=192.0.2.9")]),
            caller("127.0.0.1", &[host, ("x-forwarded-for", "\u{ff}, 192.0.2.9")]),
            caller("127.0.0.1", &[("host", "evil.example")]),
            caller("127.0.0.1", &[("host", "127.0.0.1:4567")]),
            caller("::1", &[("host", "[::1]:4567")]),
            caller("127.0.0.1", &[]),
        ];
        assert_snapshot!(said.join("\n"), @"
        192.0.2.9 http://localhost:4567
        192.0.2.9 http://localhost:4567
        127.0.0.1 http://localhost:4567 local
        192.0.2.9 https://ci.example.org
        192.0.2.9 http://localhost:4567
        192.0.2.9 http://localhost:4567
        192.0.2.9 http://localhost:4567
        10.1.1.1 http://localhost:4567
        127.0.0.1 http://localhost:4567
        ::1 http://localhost:4567
        ::1 http://localhost:4567
        127.0.0.1 http://localhost:4567
        127.0.0.1 http://localhost:4567
        127.0.0.1 http://evil.example
        127.0.0.1 http://127.0.0.1:4567 local
        ::1 http://[::1]:4567 local
        127.0.0.1
        ");
    }
}
