//! HTTP/1.1 with bodies of bytes: one request after the other on a connection that is kept, or several at once.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn accept(self, what: &str) -> Self {
        self.header("accept", what)
    }

    /// With a body.
    pub(crate) fn with(mut self, media: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", media)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| *name == "host") {
            bytes += "host: localhost\r\n";
        }
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        bytes += &format!("content-length: {}\r\n\r\n", self.body.len());
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

pub(crate) fn get(path: impl Into<String>) -> Request {
    Request::new("GET", path)
}

pub(crate) fn delete(path: impl Into<String>) -> Request {
    Request::new("DELETE", path)
}

pub(crate) fn post(path: impl Into<String>, object: &Value) -> Request {
    Request::new("POST", path).with(JSON, object.to_string())
}

/// A create of which the body is text as it stands.
pub(crate) fn post_text(path: impl Into<String>, text: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", path).with(JSON, text)
}

pub(crate) fn put(path: impl Into<String>, object: &Value) -> Request {
    Request::new("PUT", path).with(JSON, object.to_string())
}

pub(crate) fn patch(media: &str, path: impl Into<String>, text: impl Into<Vec<u8>>) -> Request {
    Request::new("PATCH", path).with(media, text)
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        let named = self.headers.iter().filter(|(name, _)| name == "warning");
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// The body of an answer that must have this code.
    #[track_caller]
    pub(crate) fn ok(&self, code: u16) -> Value {
        assert_eq!(self.status, code, "{}", self.text());
        self.json()
    }

    /// It must be an error: the whole of it is compared but for `details`, which are answered.
    #[track_caller]
    pub(crate) fn refuses(&self, code: u16, reason: &str, message: &str) -> Value {
        let status = self.json();
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (
                self.status,
                text("reason").as_str(),
                text("message").as_str()
            ),
            (code, reason, message),
        );
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["apiVersion"], "v1");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["code"], code);
        assert!(status["metadata"].is_object());
        assert_eq!(self.header("content-type"), Some(JSON));
        status["details"].clone()
    }

    /// The same where the message is not known in advance, or is not compared by anybody.
    #[track_caller]
    pub(crate) fn refuses_with(&self, code: u16, reason: &str, part: &str) -> Value {
        let status = self.json();
        assert_eq!(
            (self.status, status["reason"].as_str().unwrap_or_default()),
            (code, reason),
            "{}",
            self.text()
        );
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{message}");
        status["details"].clone()
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(endpoint: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(endpoint)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn call(&mut self, request: &Request) -> io::Result<Answer> {
        self.write(request)?;
        self.read()
    }

    /// Sends a request whose answer is read later.
    pub(crate) fn write(&mut self, request: &Request) -> io::Result<()> {
        self.write_raw(&request.bytes())
    }

    /// Sends bytes that may be no request.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.get_mut().write_all(bytes) {
            // A server that refuses early may close before it has read all: its answer is there.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Reads the next answer.
    pub(crate) fn read(&mut self) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let find = |name: &str| headers.iter().find(|(other, _)| other == name);
        let mut body = Vec::new();
        if find("transfer-encoding").is_some_and(|(_, value)| value == "chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        } else if let Some((_, length)) = find("content-length") {
            let length: usize = length
                .parse()
                .map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, status))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                return Ok((code, headers));
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let length = usize::from_str_radix(&line, 16)
            .map_err(|_| io::Error::new(ErrorKind::UnexpectedEof, line))?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) what: String,
    pub(crate) object: Value,
}

impl Event {
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &str {
        let version = self.object["metadata"]["resourceVersion"].as_str();
        version.unwrap_or_default()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.version().parse().unwrap_or_default()
    }
}

/// A watch that is under way.
pub(crate) struct Watch {
    connection: Connection,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    waiting: Vec<u8>,
}

impl Watch {
    pub(crate) fn open(endpoint: &str, request: &Request) -> io::Result<Self> {
        let mut connection = Connection::open(endpoint)?;
        connection.write(request)?;
        let (status, headers) = connection.head()?;
        Ok(Self {
            connection,
            status,
            headers,
            waiting: Vec::new(),
        })
    }

    /// The next event; none at the end of the stream.
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)?;
                return Ok(Some(Event {
                    what: event["type"].as_str().unwrap_or_default().to_owned(),
                    object: event["object"].clone(),
                }));
            }
            match self.connection.chunk()? {
                Some(chunk) => self.waiting.extend_from_slice(&chunk),
                None if self.waiting.is_empty() => return Ok(None),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Everything up to the end of the stream.
    pub(crate) fn rest(mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        Ok(events)
    }
}
