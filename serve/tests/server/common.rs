//! A server in this process, and a client that does what no well-behaved one would do.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use teff_runtime::Model;
use teff_runtime::engine::{Engine, EngineOptions};
use teff_serve::{ServeOptions, Server};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

/// Time after which a test has failed: nothing here depends on how long something takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The model that writes stories, opened once.
pub(crate) fn story() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let open = || {
        let path = root().join("examples/gpt2/model.gguf");
        Arc::new(Model::open(path).expect("the story model"))
    };
    Arc::clone(MODEL.get_or_init(open))
}

/// A running server, which ends with this value.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Engine options of the tests: few threads, since tests run beside each other.
pub(crate) fn engine_options() -> EngineOptions {
    EngineOptions::default().with_threads(1).with_sequences(4)
}

/// Starts a server of the story model.
pub(crate) fn start(options: ServeOptions) -> Running {
    start_with(options, engine_options())
}

/// Starts a server of the story model with these options of the engine.
pub(crate) fn start_with(options: ServeOptions, engine: EngineOptions) -> Running {
    let engine = Engine::builder(&story()).options(engine).build().expect("an engine");
    start_engine(options, engine)
}

/// Starts a server of the story model with this engine.
pub(crate) fn start_engine(options: ServeOptions, engine: Engine) -> Running {
    let server = Server::new(options, story(), engine).expect("a server");
    let (shutdown, ended) = oneshot::channel();
    let (sender, address) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            // Connections have it too: readers who take nothing are noticed early.
            socket.set_send_buffer_size(1 << 16)?;
            socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            let listener = socket.listen(1024)?;
            sender.send(listener.local_addr()?).expect("the test waits");
            server.serve(listener, async { ended.await.unwrap_or(()) }).await
        })
    });
    let address = address.recv().expect("the server listens");
    Running { address, shutdown: Some(shutdown), thread: Some(thread) }
}

/// Options of most tests: a name, and a template that writes roles and contents.
pub(crate) fn options() -> ServeOptions {
    ServeOptions::default().with_model_id("story").with_chat_template(TEMPLATE)
}

/// A template that the story model has some use for.
pub(crate) const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                            {% if add_generation_prompt %}assistant:{% endif %}";

impl Running {
    /// Tells the server to end, without waiting for it.
    pub(crate) fn tell_to_end(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Ends the server and waits for it.
    pub(crate) fn end(mut self) {
        self.tell_to_end();
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic").expect("no error");
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream, rest: Vec::new() }
    }

    /// A connection whose system takes little that isn't read.
    pub(crate) fn connect_narrow(&self) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let stream = runtime.expect("a runtime").block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(4096)?;
            socket.connect(self.address).await?.into_std()
        });
        let stream = stream.expect("a connection");
        stream.set_nonblocking(false).expect("a blocking connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream, rest: Vec::new() }
    }

    /// One request with its own connection.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut client = self.connect();
        client.send(method, path, headers, body);
        client.answer()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.request("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// A request whose answer must be a JSON object with status 200.
    pub(crate) fn ok(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{body} {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// A request that must be refused with this status: its error.
    pub(crate) fn refused(&self, path: &str, body: &Value, status: u16) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, status, "{body} {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let error = answer.json()["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        error
    }

    /// Value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().expect("a number")
    }

    /// Waits until a condition holds.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell_to_end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The data of all events of a stream that ended well.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        let kind = self.header("content-type");
        assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
        let text = self.text();
        let mut data: Vec<&str> = Vec::new();
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            match event.strip_prefix("data: ") {
                Some(event) => data.push(event),
                None => assert!(event.starts_with(':'), "{event}"),
            }
        }
        assert_eq!(data.pop(), Some("[DONE]"), "{text}");
        data.iter().map(|data| serde_json::from_str(data).expect(data)).collect()
    }
}

impl Client {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let mut all = head.into_bytes();
        all.extend_from_slice(body);
        // The server may refuse before it has read all of it.
        let _ = self.stream.write_all(&all);
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) {
        self.send("POST", path, &[], body.to_string().as_bytes());
    }

    /// Reads until there is a text, and returns everything up to its end.
    pub(crate) fn read_to(&mut self, end: &str) -> Vec<u8> {
        loop {
            let found = self.rest.windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(at) = found {
                return self.rest.drain(..at + end.len()).collect();
            }
            let mut more = [0; 4096];
            let n = self.stream.read(&mut more).expect("an answer");
            assert!(n > 0, "ended before {end:?}: {:?}", String::from_utf8_lossy(&self.rest));
            self.rest.extend_from_slice(&more[..n]);
        }
    }

    fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.rest.len() < n {
            let mut more = [0; 4096];
            let read = self.stream.read(&mut more).expect("an answer");
            assert!(read > 0, "ended early");
            self.rest.extend_from_slice(&more[..read]);
        }
        self.rest.drain(..n).collect()
    }

    /// Reads the line and the headers of an answer.
    pub(crate) fn head(&mut self) -> Answer {
        let head = String::from_utf8(self.read_to("\r\n\r\n")).expect("text");
        let mut lines = head.lines();
        let line = lines.next().expect("a line");
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).expect(line);
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        Answer { status, headers, body: Vec::new() }
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = String::from_utf8(self.read_to("\r\n")).expect("text");
                let n = usize::from_str_radix(line.trim(), 16).expect("a length");
                let chunk = self.exactly(n);
                answer.body.extend(chunk);
                self.exactly(2);
                if n == 0 {
                    return answer;
                }
            }
        }
        let length = answer.header("content-length").and_then(|n| n.parse().ok());
        answer.body = self.exactly(length.unwrap_or(0));
        answer
    }

    /// True if the server has closed the connection without a further byte, within the patience.
    pub(crate) fn is_closed(&mut self) -> bool {
        assert!(self.rest.is_empty());
        match self.stream.read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Says that nothing more will be sent, though answers are read.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half a connection");
    }
}
