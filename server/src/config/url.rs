//! Addresses to listen on and to advertise, by etcd's rules.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Where a listener binds: an IP address and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    text: String,
    address: SocketAddr,
    is_secure: bool,
}

impl ListenUrl {
    /// Reads `http://IP:port` or `http://localhost:port`. Names other than localhost are refused, as in etcd: what a
    /// name resolves to may change between two starts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = split(text)?;
        Self::at(text, host, port, false)
    }

    /// The same, or `https`. Without TLS only this machine may reach it.
    pub fn parse_api(text: &str) -> Result<Self, String> {
        let is_secure = text.starts_with("https://");
        let (host, port) = match split_scheme(text)? {
            ("https", rest) => host_and_port(rest, text)?,
            _ => split(text)?,
        };
        let url = Self::at(text, host, port, is_secure)?;
        if !is_secure && !url.address.ip().is_loopback() {
            return Err(format!(
                "{text}: the resource API is served without TLS on loopback addresses only; use https"
            ));
        }
        Ok(url)
    }

    fn at(text: &str, host: &str, port: u16, is_secure: bool) -> Result<Self, String> {
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host
                .parse()
                .map_err(|_| format!("expected IP in URL for binding ({text})"))?,
        };
        Ok(Self {
            text: text.to_owned(),
            address: SocketAddr::new(ip, port),
            is_secure,
        })
    }

    /// Whether it is spoken with TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The address to bind.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks an address that others are told: any host, with a port and without a path.
pub(super) fn check_advertised(text: &str) -> Result<(), String> {
    split(text).map(drop)
}

/// Whether two advertised addresses name the same place without asking DNS.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.to_lowercase().replace("//localhost:", "//127.0.0.1:");
    plain(a) == plain(b)
}

/// Checks an address of a member as others tell it: any host, with a port and without a path. Which of them this
/// version can connect to is not asked: others may.
pub fn check_peer(text: &str) -> Result<(), String> {
    let (scheme, rest) = split_scheme(text)?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong_scheme(text));
    }
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(format!("URL must not contain white space: {text}"));
    }
    host_and_port(rest, text).map(drop)
}

/// The host and port of an `http` URL.
fn split(text: &str) -> Result<(&str, u16), String> {
    let (scheme, rest) = split_scheme(text)?;
    match scheme {
        "http" => host_and_port(rest, text),
        "https" => Err(format!("{text}: TLS is not built yet; use http")),
        "unix" | "unixs" => Err(format!("{text}: unix sockets are not built yet; use http")),
        _ => Err(wrong_scheme(text)),
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    text.split_once("://").ok_or_else(|| wrong_scheme(text))
}

fn wrong_scheme(text: &str) -> String {
    format!("URL scheme must be http or https: {text}")
}

/// Takes apart what follows the scheme of `text`.
fn host_and_port<'a>(rest: &'a str, text: &str) -> Result<(&'a str, u16), String> {
    if rest.contains(['/', '?', '#']) {
        return Err(format!("URL must not contain a path: {text}"));
    }
    let no_port = || format!(r#"URL address does not have the form "host:port": {text}"#);
    let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(no_port)?,
        None if host.contains(':') => return Err(no_port()),
        None => host,
    };
    Ok((host, port.parse().map_err(|_| no_port())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_need_an_ip_or_localhost_and_a_port() {
        let good = [
            ("http://localhost:2379", "127.0.0.1:2379"),
            ("http://0.0.0.0:0", "0.0.0.0:0"),
            ("http://[::1]:2379", "[::1]:2379"),
        ];
        for (text, address) in good {
            assert_eq!(
                ListenUrl::parse(text).unwrap().address().to_string(),
                address
            );
        }
        let bad = [
            (
                "http://example.com:2379",
                "expected IP in URL for binding (http://example.com:2379)",
            ),
            (
                "http://127.0.0.1",
                r#"URL address does not have the form "host:port": http://127.0.0.1"#,
            ),
            (
                "http://::1:2379",
                r#"URL address does not have the form "host:port": http://::1:2379"#,
            ),
            (
                "http://127.0.0.1:70000",
                r#"URL address does not have the form "host:port": http://127.0.0.1:70000"#,
            ),
            (
                "http://127.0.0.1:2379/",
                "URL must not contain a path: http://127.0.0.1:2379/",
            ),
            (
                "127.0.0.1:2379",
                "URL scheme must be http or https: 127.0.0.1:2379",
            ),
            (
                "ftp://127.0.0.1:2379",
                "URL scheme must be http or https: ftp://127.0.0.1:2379",
            ),
            (
                "https://127.0.0.1:2379",
                "https://127.0.0.1:2379: TLS is not built yet; use http",
            ),
        ];
        for (text, message) in bad {
            assert_eq!(ListenUrl::parse(text).unwrap_err(), message);
        }
    }

    #[test]
    fn addresses_of_peers_need_a_host_and_a_port() {
        for good in [
            "http://a:1",
            "https://example.com:2380",
            "http://10.0.0.1:65535",
            "https://[fe80::1]:2380",
        ] {
            assert_eq!(check_peer(good), Ok(()));
        }
        for bad in [
            "",
            "a:1",
            "//a:1",
            "http://a",
            "http://a:",
            "http://a:65536",
            "http://a:x",
            "http://a:1/",
            "http://a:1?x",
            "http://a b:1",
            "http://fe80::1:2380",
            "ftp://a:1",
            "unix://a:1",
        ] {
            assert!(check_peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn localhost_and_its_address_are_the_same_place() {
        assert!(is_same("http://localhost:2380", "http://127.0.0.1:2380"));
        assert!(!is_same("http://localhost:2380", "http://127.0.0.1:2381"));
    }
}
