//! The ConfigMaps of a run: their requests, as a client library would send them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Uri};

use crate::random::Random;
use crate::wire::KEY_DIGITS;

/// Where all objects of a run are.
pub(crate) const NAMESPACE: &str = "bench";
/// What all their names begin with; a server may make objects of its own beside them.
pub(crate) const NAME_PREFIX: &str = "item-";
/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces";

/// Makes requests; a worker has one of its own.
#[derive(Clone)]
pub(crate) struct Requests {
    /// The heads of reading and writing ones, but for the path.
    read: Request<()>,
    write: Request<()>,
    collection: String,
    /// Bytes of an object as it is created.
    size: usize,
    /// Reused as soon as the transport has let go of the request before.
    buffer: BytesMut,
}

impl Requests {
    /// Requests for objects of `size` bytes.
    pub(crate) fn new(endpoint: SocketAddr, size: usize) -> Result<Requests> {
        let head = || {
            Request::builder()
                .header("accept", "application/json")
                .header("user-agent", "holdfast-bench")
        };
        Ok(Requests {
            read: head().body(())?,
            write: head().header("content-type", "application/json").body(())?,
            collection: format!("http://{endpoint}{NAMESPACES}/{NAMESPACE}/configmaps"),
            size,
            buffer: BytesMut::new(),
        })
    }

    /// Makes the namespace.
    pub(crate) fn create_namespace(&self, endpoint: SocketAddr) -> Result<(Request<()>, Bytes)> {
        let body = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{{\"name\":\"{NAMESPACE}\"}}}}"
        );
        let path = format!("http://{endpoint}{NAMESPACES}");
        Ok((self.head(Method::POST, path)?, body.into()))
    }

    /// Creates the object of a number, with random content.
    pub(crate) fn create(
        &mut self,
        number: u64,
        random: &mut Random,
    ) -> Result<(Request<()>, Bytes)> {
        let body = self.object(number, None, random)?;
        Ok((self.head(Method::POST, self.collection.clone())?, body))
    }

    /// Replaces an object that is as it was at `revision` with new random content.
    pub(crate) fn update(
        &mut self,
        number: u64,
        revision: i64,
        random: &mut Random,
    ) -> Result<(Request<()>, Bytes)> {
        let body = self.object(number, Some(revision), random)?;
        Ok((self.head(Method::PUT, self.path(number))?, body))
    }

    /// Gets one object.
    pub(crate) fn get(&self, number: u64) -> Result<Request<()>> {
        self.head(Method::GET, self.path(number))
    }

    /// Lists all objects in one answer.
    pub(crate) fn list(&self) -> Result<Request<()>> {
        self.head(Method::GET, self.collection.clone())
    }

    /// Watches all objects from behind a revision on.
    pub(crate) fn watch(&self, revision: i64) -> Result<Request<()>> {
        let path = format!("{}?watch=true&resourceVersion={revision}", self.collection);
        self.head(Method::GET, path)
    }

    fn path(&self, number: u64) -> String {
        format!(
            "{}/{NAME_PREFIX}{number:0width$}",
            self.collection,
            width = KEY_DIGITS
        )
    }

    fn head(&self, method: Method, path: String) -> Result<Request<()>> {
        let mut head = match method {
            Method::GET => self.read.clone(),
            _ => self.write.clone(),
        };
        *head.method_mut() = method;
        *head.uri_mut() = Uri::from_maybe_shared(Bytes::from(path))?;
        Ok(head)
    }

    /// An object that is new, or one as it was at a revision. The content of both is equally long.
    fn object(&mut self, number: u64, revision: Option<i64>, random: &mut Random) -> Result<Bytes> {
        const END: &str = "\"}}";
        let buffer = &mut self.buffer;
        buffer.clear();
        write!(
            buffer,
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{NAME_PREFIX}{number:0width$}\",\
             \"namespace\":\"{NAMESPACE}\"",
            width = KEY_DIGITS
        )?;
        let fixed = buffer.len();
        if let Some(revision) = revision {
            write!(buffer, ",\"resourceVersion\":\"{revision}\"")?;
        }
        const DATA: &str = "},\"data\":{\"value\":\"";
        buffer.extend_from_slice(DATA.as_bytes());
        let content = self.size.checked_sub(fixed + DATA.len() + END.len());
        write_digits(
            buffer,
            content.context("an object is longer than that")?,
            random,
        );
        buffer.extend_from_slice(END.as_bytes());
        Ok(buffer.split().freeze())
    }
}

/// Random hexadecimal digits: text that needs no escapes, and has no letter that a scan looks for.
fn write_digits(buffer: &mut BytesMut, length: usize, random: &mut Random) {
    let end = buffer.len() + length;
    while buffer.len() < end {
        let mut left = random.next();
        let step = (end - buffer.len()).min(16);
        let digits: [u8; 16] = std::array::from_fn(|_| {
            let digit = b"0123456789abcdef"[(left % 16) as usize];
            left /= 16;
            digit
        });
        buffer.extend_from_slice(&digits[..step]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde_json::{Value, json};

    use super::Requests;
    use crate::api::scan;
    use crate::random::Random;

    fn requests() -> Requests {
        Requests::new(SocketAddr::from(([127, 0, 0, 1], 6443)), 1024).unwrap()
    }

    #[test]
    fn objects_are_created_with_the_size_of_the_plan_and_different_content() {
        let (mut requests, mut random) = (requests(), Random::new(1));
        let (head, body) = requests.create(42, &mut random).unwrap();
        assert_eq!(head.method(), "POST");
        assert_eq!(head.uri().path(), "/api/v1/namespaces/bench/configmaps");
        assert_eq!(head.headers()["content-type"], "application/json");
        assert_eq!((body.len(), scan::count(&body)), (1024, 1));
        let object: Value = serde_json::from_slice(&body).unwrap();
        let metadata = json!({ "name": "item-0000000042", "namespace": "bench" });
        assert_eq!(object["metadata"], metadata);
        let (_, other) = requests.create(42, &mut random).unwrap();
        assert_ne!(body, other);
    }

    #[test]
    fn an_update_says_which_revision_it_replaces() {
        let (head, body) = requests().update(7, 123, &mut Random::new(1)).unwrap();
        assert_eq!(head.method(), "PUT");
        let path = "/api/v1/namespaces/bench/configmaps/item-0000000007";
        assert_eq!(head.uri().path(), path);
        let object: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], "123");
        assert_eq!(object["data"]["value"].as_str().map(str::len), {
            let (_, body) = requests().create(7, &mut Random::new(1)).unwrap();
            let object: Value = serde_json::from_slice(&body).unwrap();
            object["data"]["value"].as_str().map(str::len)
        });
        assert_eq!(scan::revision(&body).unwrap(), 123);
    }

    #[test]
    fn reading_requests_have_no_media_type_of_a_body() {
        let watch = requests().watch(9).unwrap();
        assert_eq!(watch.uri().query(), Some("watch=true&resourceVersion=9"));
        assert!(!watch.headers().contains_key("content-type"));
        assert_eq!(
            requests().get(1).unwrap().headers()["accept"],
            "application/json"
        );
        assert_eq!(requests().list().unwrap().uri().query(), None);
    }

    #[test]
    fn an_object_has_a_least_size() {
        let mut requests = Requests::new(SocketAddr::from(([127, 0, 0, 1], 1)), 50).unwrap();
        assert!(requests.create(1, &mut Random::new(1)).is_err());
    }
}
