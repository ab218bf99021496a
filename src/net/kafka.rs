//! Kafka by librdkafka: settings, log, broker errors, and tokens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use super::tls::Trust;
use crate::secret::Secret;

mod token;

pub use token::Oidc;
use token::Tokens;

/// The header that carries an event's id.
pub const ID_HEADER: &str = "weir-id";

/// Options of librdkafka by their names there.
pub type Options = BTreeMap<String, Secret<String>>;

/// SASL authentication.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// SASL mechanism.
    pub mechanism: Mechanism,
    /// User name, for all mechanisms except `oauthbearer`.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<Secret<String>>,
    /// A fixed token (JWT) for `oauthbearer`.
    #[serde(default)]
    pub token: Option<Secret<String>>,
    /// Token endpoint for `oauthbearer` (OIDC client credentials).
    #[serde(default)]
    pub oidc: Option<Oidc>,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    #[serde(rename = "plain")]
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    #[serde(rename = "oauthbearer")]
    OauthBearer,
}

/// What leads to the brokers.
pub struct Access<'a> {
    pub brokers: &'a [String],
    /// Absent where connections are not encrypted.
    pub trust: Option<&'a Trust>,
    pub sasl: Option<&'a Sasl>,
    pub options: &'a Options,
}

/// An option that may not be set, and why.
pub type Reserved = (&'static str, &'static str);

impl Access<'_> {
    /// What is wrong, each with its path below the component. Nothing is touched.
    pub fn problems(&self, reserved: &[Reserved]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.brokers.is_empty() {
            found.push(("brokers".into(), "no brokers: expected at least one `host:port`".into()));
        }
        for (nth, broker) in self.brokers.iter().enumerate() {
            // Several in one text are what other clients of Kafka take.
            if broker.split(',').any(|one| one.is_empty() || one.contains(char::is_whitespace)) {
                found.push((format!("brokers[{nth}]"), "expected `host:port`, or several separated by commas".into()));
            }
        }
        for (key, value) in self.options {
            let path = format!("options.{key}");
            if let Some((_, instead)) = reserved.iter().chain(ALWAYS_RESERVED).find(|(name, _)| name == key) {
                found.push((path, format!("`{key}` is not allowed in `options`: {instead}")));
            } else if let Err(wrong) = ClientConfig::new().set(key, value.expose()).create_native_config() {
                // What librdkafka says itself would show the value.
                found.push((path, unusable(key, &wrong)));
            }
        }
        if let Some(sasl) = self.sasl
            && let Err((key, wrong)) = sasl.check()
        {
            found.push((format!("sasl{key}"), wrong));
        }
        found
    }

    /// Settings for a client, with `own` where the options do not say otherwise.
    pub fn settings(&self, name: &str, own: &[(&str, &str)]) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set("client.id", format!("weir-{name}")).set("log.connection.close", "false");
        // Connections that were lost come back soon, and a host that moved is found.
        config.set("reconnect.backoff.max.ms", "5000").set("broker.address.ttl", "5000");
        config.set("socket.keepalive.enable", "true");
        config.set(
            "security.protocol",
            match (self.trust, self.sasl) {
                (None, None) => "plaintext",
                (Some(_), None) => "ssl",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        if let Some(trust) = self.trust {
            encrypt(&mut config, trust)?;
        }
        if let Some(sasl) = self.sasl {
            sasl.enter(&mut config);
        }
        for (key, value) in own {
            config.set(*key, *value);
        }
        for (key, value) in self.options {
            config.set(key, value.expose());
        }
        config.set("bootstrap.servers", self.brokers.join(","));
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }

    /// The brokers as an operator knows them.
    pub fn place(&self) -> String {
        self.brokers.iter().map(|broker| format!("`{broker}`")).collect::<Vec<_>>().join(", ")
    }

    pub fn tokens(&self) -> Result<Option<Arc<Tokens>>, String> {
        match self.sasl {
            Some(sasl) if sasl.mechanism == Mechanism::OauthBearer => Tokens::new(sasl, self.trust).map(Some),
            _ => Ok(None),
        }
    }
}

const ALWAYS_RESERVED: &[Reserved] = &[
    ("bootstrap.servers", "it is `brokers`"),
    ("metadata.broker.list", "it is `brokers`"),
    ("sasl.oauthbearer.method", "tokens come from `sasl`"),
    ("sasl.oauthbearer.config", "tokens come from `sasl`"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "tokens come from `sasl`"),
];

fn unusable(key: &str, wrong: &KafkaError) -> String {
    match wrong {
        KafkaError::ClientConfig(rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
            format!("librdkafka has no option `{key}`, or was built without it")
        }
        _ => format!("invalid value for `{key}`"),
    }
}

fn encrypt(config: &mut ClientConfig, trust: &Trust) -> Result<(), String> {
    if trust.server_name.is_some() {
        return Err("`tls.server_name` is not supported: librdkafka verifies the broker's own name".into());
    }
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path in `tls` is not UTF-8".to_owned());
    // The OpenSSL that is built in knows no folder of any distribution.
    let ca = if trust.verify { Some(trust.authorities()?) } else { trust.ca.as_deref() };
    for (key, path) in [
        ("ssl.ca.location", ca),
        ("ssl.certificate.location", trust.cert.as_deref()),
        ("ssl.key.location", trust.key.as_deref()),
    ] {
        if let Some(path) = path {
            std::fs::metadata(path).map_err(|error| format!("cannot use `{}`: {error}", path.display()))?;
            config.set(key, text(path)?);
        }
    }
    if !trust.verify {
        config.set("enable.ssl.certificate.verification", "false");
    }
    Ok(())
}

impl Sasl {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, message: &str| Err((key, message.to_owned()));
        match self.mechanism {
            Mechanism::OauthBearer => match (&self.token, &self.oidc) {
                (Some(_), Some(_)) => wrong(".token", "give `token` or `oidc`, not both"),
                (None, None) => wrong("", "`oauthbearer` needs a `token`, or `oidc` to fetch one"),
                _ => Ok(()),
            },
            _ if self.username.is_none() || self.password.is_none() => {
                wrong("", "this mechanism needs `username` and `password`")
            }
            _ => Ok(()),
        }
    }

    fn enter(&self, config: &mut ClientConfig) {
        config.set(
            "sasl.mechanisms",
            match self.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
                Mechanism::OauthBearer => "OAUTHBEARER",
            },
        );
        if let Some(username) = &self.username {
            config.set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            config.set("sasl.password", password.expose());
        }
    }
}

/// What is wrong between us and the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No broker can be reached.
    Unreachable(String),
    /// They do not believe who we are, or we not who they are.
    Denied(String),
    /// The client has ended and must be made afresh.
    Fatal(String),
}

impl Fault {
    pub fn reason(&self) -> &str {
        match self {
            Fault::Unreachable(reason) | Fault::Denied(reason) | Fault::Fatal(reason) => reason,
        }
    }
}

/// The part of a client's context that sink and source share.
pub struct Common {
    place: String,
    fault: watch::Sender<Option<Fault>>,
    /// The last error of one broker: more specific than "all brokers are down".
    said: Mutex<String>,
    tokens: Option<Arc<Tokens>>,
}

impl Common {
    pub fn new(access: &Access) -> Result<Common, String> {
        Ok(Common {
            place: access.place(),
            fault: watch::Sender::new(None),
            said: Mutex::default(),
            tokens: access.tokens()?,
        })
    }

    pub fn fault(&self) -> Option<Fault> {
        self.fault.borrow().clone()
    }

    pub fn faults(&self) -> watch::Receiver<Option<Fault>> {
        self.fault.subscribe()
    }

    /// Something went well, so what was wrong is over.
    pub fn works(&self) {
        self.fault.send_if_modified(|fault| !matches!(fault, None | Some(Fault::Fatal(_))) && fault.take().is_some());
    }

    /// The message when there was no answer at all.
    pub fn silence(&self, waited: Duration) -> String {
        match &*self.said() {
            said if said.is_empty() => format!("no answer from {} within {waited:?}", self.place),
            said => format!("cannot reach {}: {said}", self.place),
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down an error that librdkafka reports besides the answers to what it was asked.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let Some(code) = error.rdkafka_error_code() else { return };
        let reason = shown(reason);
        let fault = match code {
            Code::Authentication | Code::SaslAuthenticationFailed => {
                Fault::Denied(format!("{} rejected the credentials: {reason}", self.place))
            }
            Code::SSL => Fault::Denied(format!("TLS error with {}: {reason}", self.place)),
            Code::Fatal => Fault::Fatal(format!("the client must be recreated: {reason}")),
            Code::AllBrokersDown => {
                let said = self.said();
                let reason = if said.is_empty() { &reason } else { &*said };
                Fault::Unreachable(format!("cannot reach {}: {reason}", self.place))
            }
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                *self.said() = reason;
                return;
            }
            // The consumer hears it besides, and knows what to do.
            Code::AutoOffsetReset | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed => return,
            _ => {
                tracing::warn!(%code, reason, "librdkafka reports an error");
                return;
            }
        };
        // "All brokers are down" follows on what says why.
        self.fault.send_if_modified(|old| {
            let is_news = match (&fault, &old) {
                (Fault::Unreachable(_), Some(Fault::Denied(_) | Fault::Fatal(_))) => false,
                (_, Some(Fault::Fatal(_))) => false,
                _ => *old != Some(fault.clone()),
            };
            if is_news {
                *old = Some(fault.clone());
            }
            is_news
        });
    }
}

impl ClientContext for Common {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no token is configured")?;
        Ok(tokens.next()?)
    }
}

/// A client that only asks has nothing of its own to do with partitions.
impl ConsumerContext for Common {}

/// librdkafka repeats itself while a broker is away, and the sink says so once: its own words are for who asks.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, message, "librdkafka")
        }
        _ => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// Errors name what they are about first: `sasl_ssl://host:9093/bootstrap: `.
fn shown(reason: &str) -> String {
    let text = match reason.split_once("]: ") {
        Some((thread, rest)) if thread.starts_with("[thrd:") => rest,
        _ => reason,
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access<'a>(options: &'a Options, sasl: Option<&'a Sasl>, brokers: &'a [String]) -> Access<'a> {
        Access { brokers, trust: None, sasl, options }
    }

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| (key.to_string(), Secret::new(value.to_string()))).collect()
    }

    #[test]
    fn an_option_that_is_unknown_reserved_or_wrong_is_named_without_its_value() {
        let options = options(&[
            ("linger.ms", "5"),
            ("bootstrap.servers", "geheim:1"),
            ("linger.mss", "geheim"),
            ("socket.timeout.ms", "geheim"),
            ("acks", "geheim"),
        ]);
        let brokers = ["a:1".to_owned()];
        let found = access(&options, None, &brokers).problems(&[("acks", "it is the sink's own key")]);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            ["options.acks", "options.bootstrap.servers", "options.linger.mss", "options.socket.timeout.ms"]
        );
        assert!(found.iter().all(|(_, message)| !message.contains("geheim")), "{found:?}");
        assert!(found[0].1.ends_with("it is the sink's own key"));
    }

    #[test]
    fn passwords_reach_librdkafka_and_nothing_else() {
        let options = options(&[("ssl.key.password", "geheim")]);
        let sasl = Sasl {
            mechanism: Mechanism::ScramSha256,
            username: Some("ali".into()),
            password: Some(Secret::new("geheim".into())),
            token: None,
            oidc: None,
        };
        let brokers = ["a:1".to_owned(), "b:2".to_owned()];
        let access = access(&options, Some(&sasl), &brokers);
        assert_eq!(access.problems(&[]), []);
        assert!(!format!("{sasl:?}{options:?}").contains("geheim"));
        let config = access.settings("out", &[("linger.ms", "1")]).expect("settings");
        assert_eq!(config.get("sasl.password"), Some("geheim"));
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("linger.ms"), Some("1"));
    }

    #[test]
    fn a_mechanism_without_its_credentials_is_refused() {
        let sasl = |mechanism, token: Option<&str>| Sasl {
            mechanism,
            username: None,
            password: None,
            token: token.map(|token| Secret::new(token.to_owned())),
            oidc: None,
        };
        assert!(sasl(Mechanism::Plain, None).check().is_err());
        assert!(sasl(Mechanism::OauthBearer, None).check().is_err());
        assert!(sasl(Mechanism::OauthBearer, Some("a.b.c")).check().is_ok());
    }

    #[test]
    fn who_is_refused_is_not_said_to_be_out_of_reach() {
        let brokers = ["a:1".to_owned()];
        let options = Options::new();
        let common = Common::new(&access(&options, None, &brokers)).expect("a context");
        common.note(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "a:1/bootstrap: connection refused");
        assert_eq!(common.fault(), None);
        common.note(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let said = "cannot reach `a:1`: a:1/bootstrap: connection refused";
        assert_eq!(common.fault(), Some(Fault::Unreachable(said.into())));
        common.note(&KafkaError::Global(RDKafkaErrorCode::Authentication), "bad password");
        common.note(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert!(matches!(common.fault(), Some(Fault::Denied(_))));
        common.works();
        assert_eq!(common.fault(), None);
    }
}
