//! The server: its router, and the loop that accepts connections.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use teff_runtime::Model;
use teff_runtime::engine::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::{App, Shared, Stage};
use crate::error::ApiError;
use crate::io::Impatient;
use crate::options::ServeOptions;
use crate::{chat, completions, gate, messages, prefix, responses, status, tokens};

/// Time that connections have after their requests were cancelled.
const LAST: Duration = Duration::from_secs(2);

/// Time to wait after the system refused to accept a connection, such as for want of descriptors.
const REFUSED: Duration = Duration::from_millis(100);

/// Maximum number of headers of a request.
const MAX_HEADERS: usize = 100;

/// Error of creating a server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The model can't be served, such as for want of a tokenizer.
    Model(String),
    /// An option is out of range.
    Option {
        /// Name of the field.
        name: &'static str,
        /// Description of the allowed values.
        allowed: String,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Model(why) => write!(f, "the model can't be served: {why}"),
            ServeError::Option { name, allowed } => write!(f, "{name} must be {allowed}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Server of one model.
#[derive(Debug)]
pub struct Server {
    app: Shared,
}

impl Server {
    /// Server of a model and an engine of it.
    ///
    /// # Errors
    /// [`ServeError`] for options out of range, or a model that has no tokenizer or a malformed
    /// template.
    pub fn new(
        options: ServeOptions,
        model: Arc<Model>,
        engine: Engine,
    ) -> Result<Server, ServeError> {
        options.validate()?;
        let app = App::new(options, model, engine).map_err(ServeError::Model)?;
        Ok(Server { app: Arc::new(app) })
    }

    /// The routes, for a program that serves them itself. It has to bound headers, connections and
    /// times.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(chat::routes())
            .merge(completions::routes())
            .merge(messages::routes())
            .merge(responses::routes())
            .merge(tokens::routes())
            .merge(prefix::routes())
            .merge(status::routes())
            .fallback(not_found)
            .method_not_allowed_fallback(not_allowed)
            .layer(from_fn_with_state(Arc::clone(&self.app), gate::gate))
            .with_state(Arc::clone(&self.app))
    }

    /// Accepts connections until `shutdown` ends. Then running answers have
    /// [`grace`](ServeOptions::grace) to end, before they are cancelled.
    ///
    /// # Errors
    /// None at present: errors of single connections are logged.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (app, router) = (Arc::clone(&self.app), self.router());
        let permits = Arc::new(Semaphore::new(app.options.connections));
        let mut connections = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let next = accept(&listener, &permits);
            tokio::select! {
                (stream, permit) = next => {
                    let (app, router) = (Arc::clone(&app), router.clone());
                    connections.spawn(async move {
                        connection(&app, router, stream).await;
                        drop(permit);
                    });
                }
                _ = ticks.tick() => app.metrics.tick(&app.engine.stats()),
                Some(_) = connections.join_next() => {}
                () = &mut shutdown => break,
            }
        }
        drop(listener);
        tracing::info!(connections = connections.len(), "shutting down");
        app.enter(Stage::Draining);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(app.options.grace, drained).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "cancelling the answers that still run"
            );
            app.enter(Stage::Cancelled);
            let drained = async { while connections.join_next().await.is_some() {} };
            // What is left is dropped with the set.
            let _ = timeout(LAST, drained).await;
        }
        Ok(())
    }
}

/// Waits for room and for a connection.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(e) => {
                let gone = [
                    io::ErrorKind::ConnectionAborted,
                    io::ErrorKind::ConnectionReset,
                    io::ErrorKind::Interrupted,
                ];
                if !gone.contains(&e.kind()) {
                    tracing::warn!("a connection can't be accepted: {e}");
                    sleep(REFUSED).await;
                }
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection(app: &Shared, router: Router, stream: TcpStream) {
    // Each event is worth a packet.
    let _ = stream.set_nodelay(true);
    let options = &app.options;
    let stream = TokioIo::new(Impatient::new(stream, options.write_timeout));
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<Response, Infallible>(call(router, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(options.header_limit)
        .serve_connection(stream, service);
    app.metrics.connections.inc();
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = app.reached(Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    app.metrics.connections.dec();
    if let Err(e) = done {
        tracing::debug!("connection ended: {e}");
    }
}

/// The router's answer to a request.
async fn call(router: Router, request: Request<Incoming>) -> Response {
    use hyper_util::service::TowerToHyperService;
    let service = TowerToHyperService::new(router);
    match hyper::service::Service::call(&service, request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn not_found(request: Request<Body>) -> Response {
    let path = request.uri().path();
    refuse(ApiError::no_path(&format!("{} {path}", request.method())), path)
}

async fn not_allowed(request: Request<Body>) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    // Each path has one method, and those with GET have HEAD, too.
    let wanted = match *method {
        Method::GET | Method::HEAD => "send a POST",
        Method::POST => "send a GET",
        _ => "it has the methods of the header Allow",
    };
    let message = format!("there is no `{method} {path}`: {wanted}");
    refuse(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message), path)
}

/// The answer with an error, in the form of the path's interface.
fn refuse(e: ApiError, path: &str) -> Response {
    match path.starts_with(messages::PATH) {
        true => messages::refuse(&e),
        false => e.into_response(),
    }
}
