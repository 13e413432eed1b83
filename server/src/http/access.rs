//! Who may call over HTTP: the host names that requests may carry, and the origins whose pages browsers let call.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};
use http::{Request, Response};

/// The settings `--cors` and `--host-whitelist`.
#[derive(Clone, Debug)]
pub struct Access {
    origins: Allowed,
    hosts: Allowed,
}

#[derive(Clone, Debug)]
enum Allowed {
    All,
    These(Vec<String>),
}

impl Allowed {
    /// As in etcd, an empty list allows everything.
    fn new(list: &[String]) -> Self {
        if list.is_empty() || list.iter().any(|entry| entry == "*") {
            Self::All
        } else {
            Self::These(list.to_vec())
        }
    }

    fn has(&self, entry: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(list) => list.iter().any(|allowed| allowed == entry),
        }
    }
}

impl Access {
    /// Access for the origins and host names of these lists; `*`, or an empty list, means all.
    pub fn new(origins: &[String], hosts: &[String]) -> Self {
        Self {
            origins: Allowed::new(origins),
            hosts: Allowed::new(hosts),
        }
    }

    /// The host name of a request if it is not one of those allowed.
    pub(super) fn foreign_host<'a, B>(&self, request: &'a Request<B>) -> Option<&'a str> {
        let host = host_name(request);
        (!self.hosts.has(host)).then_some(host)
    }

    /// What browsers want to know, for the response to a request with these headers.
    pub(super) fn tell_browsers<B>(&self, asked: &HeaderMap, response: &mut Response<B>) {
        let origin = match &self.origins {
            Allowed::All => HeaderValue::from_static("*"),
            these @ Allowed::These(_) => match asked.get(ORIGIN) {
                Some(origin) if origin.to_str().is_ok_and(|text| these.has(text)) => origin.clone(),
                _ => return,
            },
        };
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        );
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        );
    }
}

/// Without the port, and without the brackets that an IPv6 address then has.
fn host_name<B>(request: &Request<B>) -> &str {
    let given = request.headers().get(HOST);
    let host = match (given.map(HeaderValue::to_str), request.uri().authority()) {
        (Some(Ok(host)), _) => host,
        (_, Some(authority)) => authority.as_str(),
        _ => return "",
    };
    match host.rsplit_once(':') {
        // Without a port nothing is taken off, as in etcd.
        _ if host.ends_with(']') => host,
        Some((name, _)) if name.starts_with('[') => {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_host_name_is_compared_without_its_port() {
        let access = Access::new(&[], &list(&["example.com", "::1"]));
        let table = [
            ("example.com", None),
            ("example.com:2379", None),
            ("[::1]:2379", None),
            ("evil.com:2379", Some("evil.com")),
            ("a.example.com", Some("a.example.com")),
        ];
        for (host, foreign) in table {
            let request = Request::get("/version")
                .header(HOST, host)
                .body(())
                .unwrap();
            assert_eq!(access.foreign_host(&request), foreign, "{host}");
        }
        let request = Request::get("http://evil.com/version").body(()).unwrap();
        assert_eq!(access.foreign_host(&request), Some("evil.com"), "HTTP/2");
        let all = Access::new(&[], &list(&["example.com", "*"]));
        assert_eq!(all.foreign_host(&request), None);
    }

    #[test]
    fn an_origin_is_told_only_if_it_is_allowed() {
        let told = |origins: &[&str], origin: &'static str| {
            let mut asked = HeaderMap::new();
            asked.insert(ORIGIN, HeaderValue::from_static(origin));
            let mut response = Response::new(());
            Access::new(&list(origins), &[]).tell_browsers(&asked, &mut response);
            let told = response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN);
            told.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(told(&["*"], "http://a").as_deref(), Some("*"));
        assert_eq!(told(&[], "http://a").as_deref(), Some("*"));
        assert_eq!(told(&["http://a"], "http://a").as_deref(), Some("http://a"));
        assert_eq!(told(&["http://a"], "http://b"), None);
    }
}
