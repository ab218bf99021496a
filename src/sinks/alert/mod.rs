//! Alerts to people by webhook, Slack-style hook or e-mail: events are grouped into messages, and messages are
//! rate-limited.
//!
//! What an event says is data, never a part of an address or a header: code comes as a preview, text for a chat is
//! escaped and mentions nobody, headers of a mail are encoded.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::component::{Check, Failure, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::net::client::Client;
use crate::secret::{Secret, SecretMask};
use crate::toolkit::reply;
use crate::units::Rate;

mod email;
mod limit;
mod message;
#[cfg(test)]
mod tests;

use email::Mailer;
use limit::Limit;
use message::Message;

/// Sends messages about events, such as the alerts of `detect`, to exactly one of `webhook`, `slack` and `email`.
/// Alerts of one rule in the same batch are one message; a larger `batch.age` groups more. Resolved alerts get a
/// message of their own. Messages beyond `limit` are not sent: their events count as dropped (`target`), and the next
/// message has their number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Posts each message as JSON: `title`, `severity`, `resolved`, `count`, `suppressed` and `alerts` (the events,
    /// with code as a preview).
    #[serde(default)]
    pub webhook: Option<Hook>,
    /// Incoming webhook of Slack, Mattermost or a compatible service.
    #[serde(default)]
    pub slack: Option<Hook>,
    /// Sends by e-mail.
    #[serde(default)]
    pub email: Option<email::Config>,
    /// Field by which alerts are grouped into messages.
    #[serde(default = "default_group")]
    pub group_by: String,
    /// Maximum rate of messages.
    #[serde(default = "default_limit")]
    pub limit: Rate,
}

/// Where messages are posted. The address is fixed: nothing of an event becomes a part of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// URL; treated as a secret.
    pub url: Secret<String>,
}

fn default_group() -> String {
    "metadata.rule".into()
}

fn default_limit() -> Rate {
    "30/h".parse().expect("a rate")
}

const SENDER: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

pub struct Alert {
    channel: Channel,
    group_by: Vec<String>,
    limit: Mutex<Limit>,
    mask: SecretMask,
    /// The whole of a write, but for the time to tell what was sent.
    patience: Duration,
}

enum Channel {
    Webhook(Client, hyper::Uri),
    Slack(Client, hyper::Uri),
    Email(Box<Mailer>),
}

/// A message that has to go out, and the places of its events in the batch.
#[derive(Debug)]
pub struct Outgoing {
    message: Message,
    events: Vec<usize>,
}

impl Sink for Alert {
    const TYPE: &'static str = "alert";
    const PROMISE: Promise = Promise::AtLeastOnce;
    type Config = Config;
    type Payload = Vec<Outgoing>;

    fn check(config: &Config, check: &mut Check) {
        let named = [config.webhook.is_some(), config.slack.is_some(), config.email.is_some()];
        if named.iter().filter(|is_there| **is_there).count() != 1 {
            check.problem_with_hint(
                "",
                "expected exactly one of `webhook`, `slack` and `email`",
                "for several, add a sink for each",
            );
        }
        for (name, hook) in [("webhook", &config.webhook), ("slack", &config.slack)] {
            if let Some(Err(message)) = hook.as_ref().map(|hook| address(hook)) {
                check.problem(format!("{name}.url"), message);
            }
        }
        if config.group_by.is_empty() || config.group_by.split('.').any(str::is_empty) {
            check.problem("group_by", "expected a field, such as `metadata.rule`");
        }
        if let Some(email) = &config.email {
            email::check(email, check);
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<Alert, Failure> {
        let mut mask = SecretMask::default();
        let channel = match config {
            Config { email: Some(email), .. } => {
                let mailer = Mailer::new(email, cx, &mut mask)?;
                if cx.dry {
                    mailer.knock().await?;
                }
                Channel::Email(Box::new(mailer))
            }
            Config { slack: Some(hook), .. } => {
                let (client, uri) = hooked(hook, cx, &mut mask)?;
                Channel::Slack(client, uri)
            }
            Config { webhook: Some(hook), .. } => {
                let (client, uri) = hooked(hook, cx, &mut mask)?;
                Channel::Webhook(client, uri)
            }
            _ => return Err(Failure::configuration("no channel is named")),
        };
        let group_by = config.group_by.split('.').map(str::to_owned).collect();
        let limit = Mutex::new(Limit::new(config.limit));
        Ok(Alert { channel, group_by, limit, mask, patience: cx.timeout.mul_f64(0.9) })
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Vec<Outgoing>, Failure> {
        Ok(message::group(batch, &self.group_by))
    }

    async fn write(&self, batch: &WriteBatch, payload: &Vec<Outgoing>) -> Result<Written, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut written = Written::default();
        for (nth, outgoing) in payload.iter().enumerate() {
            let Some(suppressed) = self.limit().next(std::time::Instant::now()) else {
                self.limit().suppress(outgoing.events.len() as u64);
                written.discarded += outgoing.events.len() as u64;
                continue;
            };
            let sent = match tokio::time::timeout_at(deadline, self.send(&outgoing.message, suppressed)).await {
                Ok(sent) => sent,
                Err(_) => Err(Failure::transient(format!("the message was not taken in {:?}", self.patience))),
            };
            match sent {
                Ok(bytes) => {
                    self.limit().sent(std::time::Instant::now(), suppressed);
                    written.bytes += bytes;
                }
                Err(failure) => return Err(of_rest(failure, &payload[nth..], batch.len(), written)),
            }
        }
        Ok(written)
    }
}

/// A failure at one message, for its events and those of the messages behind it; what became of those before.
fn of_rest(failure: Failure, rest: &[Outgoing], all: usize, before: Written) -> Failure {
    let left: usize = rest.iter().map(|outgoing| outgoing.events.len()).sum();
    let own = rest[0].events.len();
    // What may be the fault of one event is found by sending less at a time.
    if let (Failure::Transient { .. } | Failure::Configuration { .. } | Failure::Ambiguous { .. }, true) =
        (&failure, left == all)
    {
        return failure;
    }
    // Of a whole message it is not known which of its events it is about; those behind it were not tried.
    let failure = match failure {
        Failure::Poison { answer } | Failure::Ambiguous { answer } if own > 1 => Failure::Suspect { answer },
        failure => failure,
    };
    let later = Failure::transient("a message before was not taken");
    let mut failures: Vec<(usize, Failure)> = Vec::with_capacity(left);
    for (nth, outgoing) in rest.iter().enumerate() {
        let failure = match (nth, &failure) {
            (0, failure) => failure,
            (_, failure @ (Failure::Transient { .. } | Failure::Configuration { .. })) => failure,
            _ => &later,
        };
        failures.extend(outgoing.events.iter().map(|event| (*event, failure.clone())));
    }
    failures.sort_by_key(|(event, _)| *event);
    Failure::Some(failures, before)
}

impl Alert {
    fn limit(&self) -> std::sync::MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends one message; gives its bytes.
    async fn send(&self, message: &Message, suppressed: u64) -> Result<u64, Failure> {
        let sent = match &self.channel {
            Channel::Webhook(client, uri) => post(client, uri, message.webhook(suppressed)).await,
            Channel::Slack(client, uri) => post(client, uri, message.slack(suppressed)).await,
            Channel::Email(mailer) => mailer.send(message, suppressed).await,
        };
        sent.map_err(|failure| failure.reworded(|answer| self.mask.hide(answer)))
    }
}

async fn post(client: &Client, uri: &hyper::Uri, body: Vec<u8>) -> Result<u64, Failure> {
    let bytes = body.len() as u64;
    let mut request = Request::post(uri.clone()).body(Bytes::from(body)).expect("a checked address");
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(SENDER));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let answer = client.send(request).await?;
    reply::classify(&answer)?;
    Ok(bytes)
}

fn address(hook: &Hook) -> Result<hyper::Uri, &'static str> {
    let uri: hyper::Uri = hook.url.expose().parse().map_err(|_| "this is no address")?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err("expected an address that begins with `https://` or `http://`"),
    }
}

/// A client for a hook. What stands behind the host may be a secret, and is hidden in whatever is answered.
fn hooked(hook: &Hook, cx: &SinkContext, mask: &mut SecretMask) -> Result<(Client, hyper::Uri), Failure> {
    let client = cx.http_client()?;
    *mask = client.mask();
    mask.cover(hook.url.expose());
    let uri = address(hook).map_err(Failure::configuration)?;
    uri.path().split('/').chain(uri.query()).for_each(|part| mask.cover(part));
    Ok((client, uri))
}
