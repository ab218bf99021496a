//! Connections to Postgres: servers, TLS, timeouts, and the cause of a broken connection.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use super::fault::innermost;
use super::fault::is_untrusted;
use super::tls::{self, Trust};

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sent bytes may wait for the other side's kernel.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// What a URL must look like.
const FORM: &str = "write `postgres://user:password@host:5432/database`, optionally with several hosts and `?sslmode=`";

/// A database, with servers and trust from its URL.
#[derive(Clone)]
pub struct Target {
    config: tokio_postgres::Config,
    trust: Trust,
    /// Hosts and ports, with nothing private.
    pub place: String,
}

impl Target {
    /// Reads a URL (or libpq's `key=value` words). `sslmode` is as libpq has it, except that `require` checks the
    /// certificate: without `sslmode` and `trust`, TLS is used where the server offers it, whoever it may be.
    /// The error never repeats the URL.
    pub fn parse(url: &str, trust: Option<&Trust>, application: &str) -> Result<Target, String> {
        let (url, asked) = take_tls_words(url);
        // A password with such signs in it would be taken for a host, and shown as one.
        if let Some((_, rest)) = url.split_once("://")
            && rest.split_once('/').is_some_and(|(_, path)| path.contains('@'))
        {
            return Err(
                "unexpected `@` after the host: write `%40`, `%2F` and `%3A` for `@`, `/` and `:` in a password".into(),
            );
        }
        let mut config = tokio_postgres::Config::from_str(&url).map_err(|_| format!("not a Postgres URL: {FORM}"))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("missing host: {FORM}"));
        }
        let mut trust = match trust {
            Some(trust) => {
                config.ssl_mode(SslMode::Require);
                trust.clone()
            }
            None => Trust { verify: asked.verify || config.get_ssl_mode() == SslMode::Require, ..Trust::default() },
        };
        if asked.verify {
            config.ssl_mode(SslMode::Require);
        }
        trust.ca = trust.ca.or(asked.ca);
        if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(USER_TIMEOUT);
        }
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
        if config.get_application_name().is_none() {
            config.application_name(application);
        }
        let place = place(&config);
        Ok(Target { config, trust, place })
    }

    /// The same servers for questions: one that takes no writes will do.
    pub fn for_reading(mut self) -> Target {
        self.config.target_session_attrs(TargetSessionAttrs::Any);
        self
    }

    /// A connection of one's own; it ends when dropped.
    pub async fn connect(&self) -> Result<Connection, Fault> {
        let tls = match self.config.get_ssl_mode() {
            // Nothing is read that is not needed: a machine without authorities reaches a server without TLS.
            SslMode::Disable => tls::client(&Trust { verify: false, ..Trust::default() }),
            _ => tls::client(&self.trust),
        };
        let tls = tls.map_err(|reason| Fault { kind: Kind::Trust, reason, error: None })?;
        let tls = Named { inner: MakeRustlsConnect::new(tls), name: self.trust.server_name.clone() };
        let connected = self.config.connect(tls).await;
        let (client, connection) = connected.map_err(|error| Fault::connecting(&self.place, error))?;
        let broken = Arc::new(Mutex::new(None));
        let noted = broken.clone();
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
            }
        });
        Ok(Connection { client, driver: driver.abort_handle(), broken })
    }
}

/// An open connection, with the task that drives it.
pub struct Connection {
    pub client: Client,
    driver: AbortHandle,
    broken: Arc<Mutex<Option<Arc<Error>>>>,
}

impl Connection {
    /// What ended the connection, if something did: a server that shuts down says so where nobody asked.
    pub fn last_words(&self) -> Option<Arc<Error>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A connection into a black hole would wait for its farewell.
        self.driver.abort();
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct Fault {
    pub kind: Kind,
    /// For the operator.
    pub reason: String,
    /// The server's message.
    pub error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody answers, or not in time.
    Unreachable,
    /// The certificate, or what we were to trust, is not in order.
    Trust,
    /// The server answered with an error.
    Refused,
    /// The server asks for something that the URL does not have, such as a password.
    Credentials,
}

impl Fault {
    fn connecting(place: &str, error: Error) -> Fault {
        let (kind, reason) = if error.as_db_error().is_some() {
            (Kind::Refused, innermost(&error))
        } else if is_untrusted(&error) {
            let hint = "set `tls.ca` to its certificate authority, or disable the check with `tls.verify: false`";
            (Kind::Trust, format!("TLS error with `{place}`: {}: {hint}", innermost(&error)))
        } else if error.to_string().starts_with("invalid configuration") {
            (Kind::Credentials, format!("`{place}` requires something that `url` lacks: {}", innermost(&error)))
        } else {
            (Kind::Unreachable, format!("cannot reach `{place}`: {}", innermost(&error)))
        };
        Fault { kind, reason, error: Some(error) }
    }
}

fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let port = |nth: usize| ports.get(nth).or(ports.first()).copied().unwrap_or(5432);
    let named = config.get_hosts().iter().enumerate().map(|(nth, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(nth)),
        Host::Unix(path) => format!("unix:{}", path.display()),
    });
    let numbered = config.get_hostaddrs().iter().enumerate().map(|(nth, addr)| format!("{addr}:{}", port(nth)));
    let places: Vec<String> = if config.get_hosts().is_empty() { numbered.collect() } else { named.collect() };
    places.join(",")
}

/// What libpq's words ask of TLS beyond what the client reads itself.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    verify: bool,
    ca: Option<PathBuf>,
}

/// Takes `sslmode=verify-…` and `sslrootcert=` out of a URL's query.
fn take_tls_words(url: &str) -> (String, Asked) {
    let mut asked = Asked::default();
    let Some((base, query)) = url.split_once('?').filter(|_| url.contains("://")) else { return (url.into(), asked) };
    let kept = query.split('&').filter(|word| {
        match word.split_once('=') {
            Some(("sslmode", "verify-full" | "verify-ca")) => asked.verify = true,
            Some(("sslrootcert", path)) => asked.ca = Some(path.replace("%2F", "/").replace("%2f", "/").into()),
            _ => return true,
        }
        false
    });
    let kept: Vec<&str> = kept.collect();
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    (url, asked)
}

/// Asks certificates for another name than the host's, where the configuration says so.
#[derive(Clone)]
struct Named {
    inner: MakeRustlsConnect,
    name: Option<String>,
}

impl MakeTlsConnect<Socket> for Named {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let name = self.name.as_deref().unwrap_or(host);
        <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut self.inner, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::parse(url, None, "weir")
    }

    #[test]
    fn a_place_has_hosts_and_ports_and_nothing_private() {
        for (url, place) in [
            ("postgres://ali:hunter2@db/logs", "db:5432"),
            ("postgresql://ali:hunter2@a:5433,b:5434/logs?sslmode=verify-full", "a:5433,b:5434"),
            ("host=/run/postgresql user=ali password=hunter2", "unix:/run/postgresql"),
            ("hostaddr=10.0.0.1 port=6432 user=ali", "10.0.0.1:6432"),
        ] {
            assert_eq!(target(url).expect(url).place, place);
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        for url in ["hunter2", "postgres://ali:hunter2@db:port/x", "postgres:///x?hunter2=1", "dbname=hunter2"] {
            let wrong = target(url).err().expect(url);
            assert!(wrong.contains("postgres://user:password@host") && !wrong.contains("hunter2"), "{wrong}");
        }
    }

    #[test]
    fn certificates_are_checked_as_soon_as_tls_is_asked_for() {
        let trust =
            |url: &str| target(url).map(|target| (target.config.get_ssl_mode(), target.trust.verify)).expect(url);
        assert_eq!(trust("postgres://db/x"), (SslMode::Prefer, false));
        assert_eq!(trust("postgres://db/x?sslmode=disable"), (SslMode::Disable, false));
        assert_eq!(trust("postgres://db/x?sslmode=require"), (SslMode::Require, true));
        assert_eq!(trust("postgres://db/x?sslmode=verify-full&sslrootcert=/ca.pem"), (SslMode::Require, true));
        let own = Target::parse("postgres://db/x", Some(&Trust::default()), "weir").expect("a target");
        assert_eq!((own.config.get_ssl_mode(), own.trust.verify), (SslMode::Require, true));
    }

    #[test]
    fn of_several_hosts_one_that_takes_writes_is_chosen() {
        let attrs = |url: &str| target(url).expect(url).config.get_target_session_attrs();
        assert_eq!(attrs("postgres://a,b/x"), TargetSessionAttrs::ReadWrite);
        assert_eq!(attrs("postgres://a/x"), TargetSessionAttrs::Any);
        assert_eq!(attrs("postgres://a,b/x?target_session_attrs=read-only"), TargetSessionAttrs::ReadOnly);
    }
}
