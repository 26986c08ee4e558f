//! A proxy that injects faults into what passes through it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::{Broken, Counted, Damage, Direction, Failure, Payload, payload, whole};
use super::faults::{Fault, Faults, Kind};
use super::host::Host;
use super::listing;
use super::requests::{Entry, Log, Seen};
use super::wire::{End, Line, Wire};

/// Stands before a [`Server`](super::Server), or anything else that speaks HTTP/1.1, and passes requests on unchanged
/// unless a fault matches. Of several faults that match, the one injected first breaks the request.
pub struct FaultProxy {
    host: Host,
    state: Arc<State>,
}

struct State {
    upstream: SocketAddr,
    faults: Faults,
    log: Log,
}

impl FaultProxy {
    pub fn start(upstream: SocketAddr) -> Self {
        let state = Arc::new(State { upstream, faults: Faults::default(), log: Log::default() });
        let host = Host::start({
            let state = Arc::clone(&state);
            move |stream| serve(stream, Arc::clone(&state))
        });
        Self { host, state }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.host.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.host.address()
    }

    pub fn inject(&self, fault: Fault) {
        self.state.faults.inject(fault);
    }

    /// Ends all faults. Requests that hang go on.
    pub fn clear(&self) {
        self.state.faults.clear();
    }

    /// How many requests were broken since the start.
    pub fn hits(&self) -> usize {
        self.state.faults.hits()
    }

    /// Waits until this many requests have been broken since the start.
    pub async fn until_hit(&self, times: usize) {
        self.state.faults.until_hit(times).await;
    }

    /// Everything asked for since the start or since [`forget_requests`](Self::forget_requests), in order, with the
    /// status and the bytes that the client got.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.log.seen()
    }

    pub fn forget_requests(&self) {
        self.state.log.forget();
    }

    /// Cuts all connections and refuses new ones, as [`Server::stop`](super::Server::stop) does.
    pub fn stop(&self) {
        self.host.stop();
    }

    /// Listens on the same port again.
    pub fn resume(&self) {
        self.host.resume();
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let line = Arc::new(Line::default());
    let wire = TokioIo::new(Wire::new(stream, &line));
    let answer = service_fn(|request| answer(request, Arc::clone(&state), Arc::clone(&line)));
    // Clients may go away whenever they like, and cuts end here too.
    let _ = server::conn::http1::Builder::new().serve_connection(wire, answer).await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>, line: Arc<Line>) -> Result<Response<Payload>, Failure> {
    let entry = state.log.open(&request);
    let request = request.map(|body| payload(Counted::new(body, &entry, Direction::Request)));
    let response = broken(request, &entry, &state, line).await?;
    entry.answered(response.status());
    Ok(response.map(|body| payload(Counted::new(body, &entry, Direction::Response))))
}

async fn broken(
    mut request: Request<Payload>,
    entry: &Entry,
    state: &State,
    line: Arc<Line>,
) -> Result<Response<Payload>, Failure> {
    let mut cleared = state.faults.watch();
    let Some(kind) = state.faults.take(entry) else {
        return forward(request, state).await;
    };
    let damage = match kind {
        Kind::Status { status, code } => {
            read(request.into_body()).await?;
            return Ok(error(StatusCode::from_u16(status)?, &code));
        }
        Kind::Hang => {
            // hyper notices that the client has gone only once it has read the whole request.
            let (head, body) = request.into_parts();
            let body = read(body).await?;
            cleared.changed().await?;
            return forward(Request::from_parts(head, whole(body)), state).await;
        }
        Kind::CutRequest => {
            let _ = request.body_mut().frame().await;
            return Err(line.cut(End::Reset).into());
        }
        Kind::LoseAnswer | Kind::HangUp => {
            read(forward(request, state).await?.into_body()).await?;
            let end = if matches!(kind, Kind::HangUp) { End::Close } else { End::Reset };
            return Err(line.cut(end).into());
        }
        Kind::HideFromListing { containing } => {
            let (mut head, body) = forward(request, state).await?.into_parts();
            let body = listing::without(str::from_utf8(&read(body).await?)?, &containing);
            head.headers.remove(TRANSFER_ENCODING);
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            return Ok(Response::from_parts(head, whole(body)));
        }
        Kind::Page(page) => {
            read(request.into_body()).await?;
            let mut response = Response::new(whole(page.body));
            *response.status_mut() = StatusCode::from_u16(page.status)?;
            for (name, value) in page.headers {
                response.headers_mut().insert(name, value.parse()?);
            }
            return Ok(response);
        }
        Kind::Shorten { to } => {
            let (mut head, body) = forward(request, state).await?.into_parts();
            let body = read(body).await?;
            let body = body.slice(..body.len().min(to as usize));
            head.headers.remove(TRANSFER_ENCODING);
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            return Ok(Response::from_parts(head, whole(body)));
        }
        Kind::ResetInBody { after } => Damage::Cut { after, end: End::Reset, line },
        Kind::Truncate { after } => Damage::Cut { after, end: End::Close, line },
        Kind::Flip { offset } => Damage::Flip { offset },
    };
    let response = forward(request, state).await?;
    Ok(response.map(|body| payload(Broken::new(body, damage))))
}

/// Takes a connection of its own for each request, so that none is ever sent on one that is just being closed.
async fn forward(request: Request<Payload>, state: &State) -> Result<Response<Payload>, Failure> {
    let stream = match TcpStream::connect(state.upstream).await.and_then(with_nodelay) {
        Ok(stream) => stream,
        Err(_) => return Ok(error(StatusCode::BAD_GATEWAY, "BadGateway")),
    };
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await?;
    response.headers_mut().remove(CONNECTION);
    Ok(response.map(payload))
}

fn with_nodelay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn read(body: Payload) -> Result<Bytes, Failure> {
    Ok(body.collect().await?.to_bytes())
}

fn error(status: StatusCode, code: &str) -> Response<Payload> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>Injected by the test.</Message></Error>"
    );
    Response::builder().status(status).header(CONTENT_TYPE, "application/xml").body(whole(body)).unwrap()
}
