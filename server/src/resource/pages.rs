//! Keeps other people's web pages out: a browser carries their requests to any address that it can reach, and shows
//! the certificate that its user chose once.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::{Method, Request};
use machinery::status::{Reason, Status};

/// Refuses what a page from elsewhere makes a browser send. Programs that are no browser send none of these headers.
///
/// On a port that asks for no certificate a name in `Host` is refused, too, unless it is this machine's own: whoever
/// owns a name may point it here, and then their page is of the same origin.
pub(super) fn admit<B>(request: &Request<B>, is_open: bool) -> Result<(), Status> {
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    let host = request.uri().authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| header(HOST.as_str())).unwrap_or_default();
    let site = header("sec-fetch-site").unwrap_or("none");
    // A link that was followed: only the person sees the answer.
    let is_followed = *request.method() == Method::GET
        && header("sec-fetch-mode") == Some("navigate")
        && header("sec-fetch-dest") == Some("document");
    if !matches!(site, "none" | "same-origin") && !is_followed {
        return Err(refused("a web page of another site asks for it"));
    }
    if let Some(origin) = header(ORIGIN.as_str())
        && origin.split_once("://").is_none_or(|(_, at)| at != host)
    {
        return Err(refused(&format!("a web page of {origin} asks for it")));
    }
    if is_open && !is_of_this_machine(host) {
        return Err(refused(&format!(
            "{host} is neither an address nor localhost, and this port asks for no certificate"
        )));
    }
    Ok(())
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || address.unwrap_or(name).parse::<IpAddr>().is_ok()
}

fn refused(why: &str) -> Status {
    Status::new(Reason::Forbidden, format!("forbidden: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_admitted(method: &str, headers: &[(&str, &str)], is_open: bool) -> bool {
        let mut request = Request::builder().method(method).uri("/api/v1/namespaces");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admit(&request.body(()).unwrap(), is_open).is_ok()
    }

    #[test]
    fn programs_and_the_own_page_are_admitted() {
        for host in [
            "127.0.0.1:8001",
            "[::1]:8001",
            "localhost:8001",
            "localhost",
        ] {
            assert!(is_admitted("POST", &[("host", host)], true), "{host}");
        }
        assert!(is_admitted(
            "GET",
            &[("host", "127.0.0.1:8001"), ("sec-fetch-site", "none")],
            true
        ));
        let own = [
            ("host", "127.0.0.1:8001"),
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://127.0.0.1:8001"),
        ];
        assert!(is_admitted("POST", &own, true));
        assert!(is_admitted(
            "POST",
            &[("host", "kubernetes.default.svc")],
            false
        ));
    }

    #[test]
    fn pages_of_others_are_not() {
        let here = ("host", "127.0.0.1:8001");
        for site in ["cross-site", "same-site", "new"] {
            for is_open in [true, false] {
                assert!(!is_admitted(
                    "POST",
                    &[here, ("sec-fetch-site", site)],
                    is_open
                ));
                assert!(!is_admitted(
                    "GET",
                    &[here, ("sec-fetch-site", site)],
                    is_open
                ));
            }
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8002",
            "127.0.0.1:8001",
        ] {
            assert!(
                !is_admitted("POST", &[here, ("origin", origin)], true),
                "{origin}"
            );
        }
    }

    #[test]
    fn a_link_may_be_followed_but_not_framed() {
        let link = |dest| {
            [
                ("host", "127.0.0.1:8001"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", dest),
            ]
        };
        assert!(is_admitted("GET", &link("document"), true));
        assert!(!is_admitted("GET", &link("iframe"), true));
        assert!(!is_admitted("POST", &link("document"), true));
    }

    #[test]
    fn a_name_that_others_may_point_here_is_refused_where_no_certificate_is_asked_for() {
        for host in [
            "evil.example:8001",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8001",
        ] {
            assert!(!is_admitted("GET", &[("host", host)], true), "{host}");
        }
    }
}
