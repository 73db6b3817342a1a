//! A client over plain sockets, which can leave at any point.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Time after which an answer that doesn't come is a fault.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Result of what a client does, with the cause of a fault as a sentence.
pub(crate) type Done<T = ()> = Result<T, String>;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> Done<&str> {
        std::str::from_utf8(&self.body).map_err(|e| e.to_string())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Done<Value> {
        let text = self.text()?;
        serde_json::from_str(text).map_err(|e| format!("{e}: {text:.300}"))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Done<Value> {
        match self.status {
            200 => self.json(),
            status => Err(format!("status {status}: {:.300}", self.text()?)),
        }
    }

    /// Wants a refusal with one of these statuses, in JSON that says why.
    pub(crate) fn refused(&self, statuses: &[u16]) -> Done {
        if !statuses.contains(&self.status) {
            return Err(format!("status {}: {:.300}", self.status, self.text()?));
        }
        let error = &self.json()?["error"];
        let said = error["message"].as_str().is_some_and(|text| !text.is_empty());
        match said && error["type"].is_string() {
            true => Ok(()),
            false => Err(format!("an error without a message: {:.300}", self.text()?)),
        }
    }
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

fn io(e: &std::io::Error) -> String {
    format!("the connection: {e}")
}

/// A request as it is sent.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match method {
        "POST" => format!("content-length: {}\r\n", body.len()),
        _ => String::new(),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: soak\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// A request with a JSON body as it is sent.
pub(crate) fn post(path: &str, body: &Value) -> Vec<u8> {
    request("POST", path, "content-type: application/json\r\n", body.to_string().as_bytes())
}

impl Client {
    /// A new connection.
    pub(crate) fn connect(address: SocketAddr) -> Done<Client> {
        let stream = TcpStream::connect(address).map_err(|e| io(&e))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| io(&e))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|e| io(&e))?;
        stream.set_nodelay(true).map_err(|e| io(&e))?;
        Ok(Client { stream, rest: Vec::new() })
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Done {
        self.stream.write_all(bytes).map_err(|e| io(&e))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) -> Done {
        self.stream.shutdown(Shutdown::Write).map_err(|e| io(&e))
    }

    /// Reads whatever comes until the end.
    pub(crate) fn drain(&mut self) -> Done<Vec<u8>> {
        let mut all = std::mem::take(&mut self.rest);
        let mut more = [0; 4096];
        loop {
            match self.stream.read(&mut more) {
                Ok(0) => return Ok(all),
                Ok(n) => all.extend_from_slice(&more[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(all),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(&e)),
            }
        }
    }

    fn more(&mut self) -> Done {
        let mut more = [0; 4096];
        let read = loop {
            match self.stream.read(&mut more) {
                // This process was stopped for a while.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read.map_err(|e| io(&e))? {
            0 => Err(format!("ended early: {:.300}", String::from_utf8_lossy(&self.rest))),
            n => {
                self.rest.extend_from_slice(&more[..n]);
                Ok(())
            }
        }
    }

    /// Reads up to a text and its end.
    pub(crate) fn read_to(&mut self, end: &[u8]) -> Done<Vec<u8>> {
        let mut from = 0;
        loop {
            let found = self.rest[from..].windows(end.len()).position(|w| w == end);
            if let Some(at) = found {
                return Ok(self.rest.drain(..from + at + end.len()).collect());
            }
            from = self.rest.len().saturating_sub(end.len() - 1);
            self.more()?;
        }
    }

    fn exactly(&mut self, n: usize) -> Done<Vec<u8>> {
        while self.rest.len() < n {
            self.more()?;
        }
        Ok(self.rest.drain(..n).collect())
    }

    /// Reads the line and the headers of an answer.
    pub(crate) fn head(&mut self) -> Done<Answer> {
        let head = String::from_utf8(self.read_to(b"\r\n\r\n")?).map_err(|e| e.to_string())?;
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default();
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| format!("no status: {line}"))?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        Ok(Answer { status, headers, body: Vec::new() })
    }

    /// Next chunk of a body in chunks; empty at its end.
    pub(crate) fn chunk(&mut self) -> Done<Vec<u8>> {
        let line = String::from_utf8_lossy(&self.read_to(b"\r\n")?).into_owned();
        let n = usize::from_str_radix(line.trim(), 16).map_err(|_| format!("a chunk: {line}"))?;
        let chunk = self.exactly(n)?;
        self.exactly(2)?;
        Ok(chunk)
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Done<Answer> {
        let mut answer = self.head()?;
        while answer.status == 100 {
            answer = self.head()?;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    return Ok(answer);
                }
                answer.body.extend(chunk);
            }
        }
        let length = answer.header("content-length").and_then(|n| n.parse().ok());
        answer.body = self.exactly(length.unwrap_or(0))?;
        Ok(answer)
    }
}
