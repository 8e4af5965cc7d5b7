//! Who may read: on this machine whoever calls it by its own name, elsewhere whoever has the token.
//!
//! The token is 128 random bits, printed once. A browser gives it with its first request and gets a cookie for the others, so that
//! it does not stay in the address.

use super::answer::Answer;
use super::request::Asked;
use crate::Result;
use lapidary_pipeline::PipelineError;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;

const COOKIE: &str = "lapidary_token";
/// Where random bytes come from.
const RANDOM: &str = "/dev/urandom";

/// What requests are held against.
pub(super) struct Guard {
    local: SocketAddr,
    token: Option<String>,
}

impl Guard {
    /// A guard for a server on this address.
    ///
    /// # Errors
    /// When the system gives no random bytes for a token.
    pub(super) fn new(local: SocketAddr) -> Result<Self> {
        let token = if local.ip().is_loopback() { None } else { Some(random_token()?) };
        Ok(Self { local, token })
    }

    /// The address to open.
    pub(super) fn address(&self, source: &str) -> String {
        let token = self.token.as_ref().map_or(String::new(), |token| format!("&token={token}"));
        format!("http://{}/?source={source}{token}", self.local)
    }

    /// Lets a request pass, or says what to answer instead.
    pub(super) fn check<'a>(
        &self,
        asked: &Asked,
        header: &impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), Box<Answer>> {
        let Some(token) = &self.token else {
            let is_ours = header("Host").is_some_and(|host| self.names_us(host));
            let text = "this server answers to its own address alone";
            return if is_ours { Ok(()) } else { Err(Box::new(Answer::error(421, text))) };
        };
        if let Some(given) = asked.get("token") {
            if !equal(given, token) {
                return Err(Box::new(Answer::error(401, "the token is another one")));
            }
            let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict");
            return Err(Box::new(Answer::elsewhere(&asked.without("token")).with("Set-Cookie", &cookie)));
        }
        let bearer = header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
        let cookie = header("Cookie").and_then(cookie_value);
        match bearer.or(cookie) {
            Some(given) if equal(given.trim(), token) => Ok(()),
            Some(_) => Err(Box::new(Answer::error(401, "the token is another one"))),
            None => {
                Err(Box::new(Answer::error(401, "open the address that `lapidary serve` printed: it has the token")))
            }
        }
    }

    /// Whether a `Host` header names this server as one does who sits at this machine.
    fn names_us(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            // Not the colon inside of an IPv6 address.
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        port == Some(self.local.port())
            && (["127.0.0.1", "localhost", "[::1]"].contains(&name) || name == self.local.ip().to_string())
    }
}

fn cookie_value(header: &str) -> Option<&str> {
    header.split(';').find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Compares in a time that does not depend on where two differ.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

fn random_token() -> Result<String> {
    let mut bytes = [0u8; 16];
    let read = File::open(RANDOM).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(PipelineError::io("read", RANDOM))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Asked {
        Asked::read(url).unwrap_or_else(|_| panic!("{url} is read"))
    }

    fn status(guard: &Guard, url: &str, headers: &[(&str, &'static str)]) -> Option<u16> {
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        guard.check(&asked(url), &header).err().map(|answer| answer.status)
    }

    #[test]
    fn on_this_machine_only_its_own_names_are_answered() {
        let guard = Guard::new("127.0.0.1:7465".parse().expect("an address")).expect("a guard");
        assert!(guard.token.is_none());
        for host in ["127.0.0.1:7465", "localhost:7465", "[::1]:7465"] {
            assert_eq!(status(&guard, "/", &[("Host", Box::leak(host.to_owned().into_boxed_str()))]), None, "{host}");
        }
        for host in ["evil.example:7465", "127.0.0.1:80", "127.0.0.1", "localhost.evil.example:7465", ""] {
            assert_eq!(
                status(&guard, "/", &[("Host", Box::leak(host.to_owned().into_boxed_str()))]),
                Some(421),
                "{host}"
            );
        }
        assert_eq!(status(&guard, "/", &[]), Some(421));
    }

    #[test]
    fn elsewhere_the_token_is_wanted_and_becomes_a_cookie() {
        let guard = Guard { local: "0.0.0.0:80".parse().expect("an address"), token: Some("0123abcd".to_owned()) };
        assert_eq!(status(&guard, "/", &[]), Some(401));
        assert_eq!(status(&guard, "/?token=0123abce", &[]), Some(401));
        assert_eq!(status(&guard, "/", &[("Authorization", "Bearer 0123abc")]), Some(401));
        assert_eq!(status(&guard, "/", &[("Authorization", "Bearer 0123abcd")]), None);
        assert_eq!(status(&guard, "/api", &[("Cookie", "a=b; lapidary_token=0123abcd")]), None);
        let header = |_: &str| None;
        let answer = guard.check(&asked("/?source=x&token=0123abcd"), &header).expect_err("it leads on");
        assert_eq!(answer.status, 302);
        assert!(
            answer.headers.iter().any(|(name, value)| name == "Location" && value == "/?source=x"),
            "{:?}",
            answer.headers
        );
        assert!(answer.headers.iter().any(|(name, value)| name == "Set-Cookie" && value.contains("HttpOnly")));
        let other = Guard::new("0.0.0.0:1".parse().expect("an address")).expect("a guard");
        assert_eq!(other.token.map(|token| token.len()), Some(32));
    }
}
