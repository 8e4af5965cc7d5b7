//! `lapidary serve`: what is under OUT in a browser, for sets too big for one file.
//!
//! A grid of any subset, filtered by reason, cluster, class, score and a lasso on a 2-D map; thumbnails come from the shards. It only
//! reads. It listens on 127.0.0.1, and answers requests that name this machine in their `Host` header alone, so that no page from
//! elsewhere reads it through a name that was made to point here; on other addresses it wants a token ([`Guard`]).

mod answer;
mod catalog;
mod guard;
mod map;
mod projection;
mod query;
mod request;
mod routes;

use crate::{EvaluateError, Result};
use answer::Answer;
use catalog::Catalogs;
use guard::Guard;
use lapidary_pipeline::stage::Layout;
use lapidary_pipeline::{PipelineError, interrupt};
use request::Asked;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tiny_http::{Method, Request, Server};

/// The port that is taken unless one is named.
pub const DEFAULT_PORT: u16 = 7465;
/// Threads that answer; decoding a picture is what takes time.
const THREADS: usize = 8;
/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(150);

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOn {
    /// Another address than 127.0.0.1; then a token is wanted, unless it is of this machine alone.
    pub address: Option<IpAddr>,
    /// The port; 0 takes any that is free.
    pub port: u16,
}

/// Serves an output tree until Ctrl-C. `started` is given the address to open, with the token where one is wanted.
///
/// # Errors
/// When the address cannot be listened on, or there is no source to show.
pub fn serve(layout: &Layout, source: &str, on: ListenOn, started: impl FnOnce(&str)) -> Result<()> {
    let address = on.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let refused = |e: String| {
        let text = format!("cannot listen on {address}, port {}: {e}\nhint: --port 0 takes a free one", on.port);
        EvaluateError::from(PipelineError::Usage(text))
    };
    let listener = TcpListener::bind(SocketAddr::new(address, on.port)).map_err(|e| refused(e.to_string()))?;
    let local = listener.local_addr().map_err(|e| refused(e.to_string()))?;
    let server = Server::from_listener(listener, None).map_err(|e| refused(e.to_string()))?;
    let guard = Guard::new(local)?;
    let catalogs = Catalogs::new(layout.clone());
    // A source that cannot be read is said now, not in the browser.
    catalogs.fresh(source)?;
    started(&guard.address(source));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while interrupt::check().is_ok() {
                    match server.recv_timeout(LOOK) {
                        Ok(Some(request)) => respond(request, &guard, &catalogs),
                        Ok(None) => {}
                        Err(error) => {
                            tracing::warn!("a connection failed: {error}");
                            std::thread::sleep(LOOK);
                        }
                    }
                }
            });
        }
    });
    Ok(())
}

fn respond(request: Request, guard: &Guard, catalogs: &Catalogs) {
    let answer = answer_to(&request, guard, catalogs);
    tracing::debug!("{} {} {}", request.method(), request.url(), answer.status);
    // Who asked may have gone.
    if let Err(error) = request.respond(answer.into_response()) {
        tracing::debug!("an answer was not taken: {error}");
    }
}

fn answer_to(request: &Request, guard: &Guard, catalogs: &Catalogs) -> Answer {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Answer::error(405, "this server only shows: GET and HEAD").with("Allow", "GET, HEAD");
    }
    let asked = match Asked::read(request.url()) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let header = |name: &str| {
        let found = request.headers().iter().find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
        found.map(|header| header.value.as_str())
    };
    if let Err(answer) = guard.check(&asked, &header) {
        return *answer;
    }
    routes::answer(catalogs, &asked)
}
