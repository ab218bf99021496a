//! JSON Web Tokens: one algorithm per key, claims validated strictly, anything doubtful refused (RFC 8725).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::jwks::Jwks;
use super::{Principal, Role, config};

/// The longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The shortest shared secret: as long as what HS256 makes of it.
pub const MIN_SECRET_BYTES: usize = 32;
/// How far the clocks of issuer and agent may differ.
const LEEWAY_SECONDS: i64 = 5;
/// The last second of the year 9999: a larger number is in another unit.
const LAST_SECOND: i64 = 253_402_300_799;
/// Keys that are tried for a token that does not name its own.
const MAX_TRIES: usize = 8;
/// Claims that name the user, by precedence.
const USER_CLAIMS: [&str; 3] = ["user_id", "username", "sub"];
/// The other claims that are looked at.
const OTHER_CLAIMS: [&str; 7] = ["aud", "exp", "is_admin", "iss", "jti", "nbf", "role"];

/// Believes tokens, or not.
pub struct Verifier {
    keys: Keys,
    audience: Vec<String>,
    issuer: Vec<String>,
    user_claim: Option<String>,
}

/// Where the keys are.
enum Keys {
    Here(Arc<Vec<Key>>),
    Served(Box<Jwks>),
}

pub struct Key {
    id: Option<String>,
    key: DecodingKey,
    /// A hash of the key.
    digest: [u8; 32],
    /// Of one family, each with what the library needs to check it and nothing else.
    algorithms: Vec<(Algorithm, Validation)>,
}

/// A token that is believed.
pub struct Verified {
    pub who: Principal,
    /// A hash of the key that signed it.
    pub key: [u8; 32],
    pub algorithm: Algorithm,
    /// Those that were looked at.
    pub claims: Map<String, Value>,
}

/// A believed token, or why it is not believed.
type Verdict = Result<Verified, &'static str>;

const NO_KEY: &str = "no key matches the signature";

impl Keys {
    fn here(keys: Vec<Key>) -> Keys {
        Keys::Here(Arc::new(keys))
    }
}

/// What is wrong with a configuration: the key it is about, and why.
pub type Fault = (&'static str, String);

impl Verifier {
    /// Reads what `config` says; `set` is the content of its JWKS file, if it names one.
    pub fn new(config: &config::Jwt, set: Option<&JwkSet>) -> Result<Verifier, Fault> {
        let allowed = parse_algorithms(&config.algorithms)?;
        let keys = match (&config.secret, &config.public_key, &config.jwks) {
            (Some(secret), None, None) => {
                validate_secret(secret.expose()).map_err(|message| ("secret", message))?;
                let key = DecodingKey::from_secret(secret.expose().as_bytes());
                Keys::here(vec![Key::new(None, key, Algorithm::HS256, &allowed)?])
            }
            (None, Some(pem), None) => {
                let (key, usual) = read_public_key(pem).map_err(|message| ("public_key", message))?;
                Keys::here(vec![Key::new(None, key, usual, &allowed)?])
            }
            (None, None, Some(jwks)) => match (jwks, set) {
                (config::Jwks::Inline(set), _) | (_, Some(set)) => Keys::here(keys_of(set, &allowed)?),
                (config::Jwks::Url(url), None) => {
                    Keys::Served(Jwks::new(url, allowed).map_err(|message| ("jwks", message))?.into())
                }
                // Its file is read at start; until then nothing is known to be wrong.
                (config::Jwks::File(_), None) => Keys::here(Vec::new()),
            },
            _ => {
                return Err(("", "set exactly one of `secret`, `public_key` and `jwks`".into()));
            }
        };
        Ok(Verifier {
            keys,
            audience: config.audience.0.clone(),
            issuer: config.issuer.0.clone(),
            user_claim: config.user_claim.clone(),
        })
    }

    /// Who the token speaks for, and by what. `now` is in seconds since 1970. The reason is for the log, not for the sender.
    pub async fn verify(&self, token: &str, now: i64) -> Verdict {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long");
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| "no token, or an unknown algorithm")?;
        if header.crit.is_some() {
            return Err("the token requires an unknown extension");
        }
        self.with_keys(|keys| self.verify_with(keys, &header, token, now)).await
    }

    /// Who a token speaks for that was verified earlier: by a key that `is_its` and with this algorithm.
    pub async fn verify_again(
        &self,
        is_its: impl Fn(&[u8; 32]) -> bool,
        algorithm: Algorithm,
        claims: &Map<String, Value>,
        now: i64,
    ) -> Result<Principal, &'static str> {
        let signs = |key: &Key| is_its(&key.digest) && key.algorithms.iter().any(|(known, _)| *known == algorithm);
        self.with_keys(|keys| if keys.iter().any(signs) { Ok(()) } else { Err(NO_KEY) }).await?;
        self.validate(claims, now)
    }

    /// Looks with the keys in force, and with newer ones if none of them fits.
    async fn with_keys<T>(&self, look: impl Fn(&[Key]) -> Result<T, &'static str>) -> Result<T, &'static str> {
        let keys = match &self.keys {
            Keys::Here(keys) => keys.clone(),
            Keys::Served(jwks) => jwks.keys().await,
        };
        match (look(&keys), &self.keys) {
            (Err(NO_KEY), Keys::Served(jwks)) => match jwks.newer_than(&keys).await {
                Some(newer) => look(&newer),
                None => Err(NO_KEY),
            },
            (found, _) => found,
        }
    }

    fn verify_with(&self, keys: &[Key], header: &Header, token: &str, now: i64) -> Verdict {
        let fits = |key: &&Key| match (&key.id, &header.kid) {
            (Some(id), Some(wanted)) => id == wanted,
            _ => true,
        };
        for key in keys.iter().filter(fits).take(MAX_TRIES) {
            let Some((_, validation)) = key.algorithms.iter().find(|(algorithm, _)| *algorithm == header.alg) else {
                continue;
            };
            if let Ok(data) = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, validation) {
                let who = self.validate(&data.claims, now)?;
                return Ok(Verified {
                    who,
                    key: key.digest,
                    algorithm: header.alg,
                    claims: self.looked_at(data.claims),
                });
            }
        }
        Err(NO_KEY)
    }

    /// The claims of a token whose signature holds.
    fn validate(&self, claims: &Map<String, Value>, now: i64) -> Result<Principal, &'static str> {
        let expires = claims.get("exp").and_then(seconds).ok_or("no usable exp")?;
        if !(0..=LAST_SECOND).contains(&expires) || now >= expires + LEEWAY_SECONDS {
            return Err("expired, or invalid exp");
        }
        if let Some(claim) = claims.get("nbf") {
            let begins = seconds(claim).ok_or("invalid nbf")?;
            if begins > now.saturating_add(LEEWAY_SECONDS) {
                return Err("not valid yet");
            }
        }
        if !names_one_of(claims.get("aud"), &self.audience) {
            return Err("wrong audience");
        }
        if !names_one_of(claims.get("iss"), &self.issuer) {
            return Err("wrong issuer");
        }
        let name = self.user(claims).ok_or("no user claim")?;
        Principal::new(name, role(claims)).ok_or("invalid user name")
    }

    /// The claims without those that nobody looks at, which may be many.
    fn looked_at(&self, mut claims: Map<String, Value>) -> Map<String, Value> {
        claims.retain(|name, _| {
            let name = name.as_str();
            USER_CLAIMS.contains(&name) || OTHER_CLAIMS.contains(&name) || self.user_claim.as_deref() == Some(name)
        });
        claims
    }

    fn user(&self, claims: &Map<String, Value>) -> Option<String> {
        let text = |name: &str| match claims.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        };
        match &self.user_claim {
            Some(claim) => text(claim),
            None => USER_CLAIMS.into_iter().find_map(text),
        }
    }
}

impl Key {
    fn new(id: Option<String>, key: DecodingKey, usual: Algorithm, allowed: &[Algorithm]) -> Result<Key, Fault> {
        let family = key.family();
        let wanted = if allowed.is_empty() { vec![usual] } else { allowed.to_vec() };
        let algorithms: Vec<_> = wanted
            .into_iter()
            .filter(|algorithm| family.algorithms().contains(algorithm))
            .map(|algorithm| (algorithm, signature_only(algorithm)))
            .collect();
        if algorithms.is_empty() {
            let usable = family.algorithms().iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(", ");
            return Err(("algorithms", format!("none of these works with the key, which supports {usable}")));
        }
        let digest = digest(key.kind());
        Ok(Key { id, key, digest, algorithms })
    }
}

/// A hash of a key; the same key of another form may have another.
fn digest(key: &DecodingKeyKind) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    match key {
        DecodingKeyKind::SecretOrDer(bytes) => hasher.update(bytes),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            hasher.update(&(n.len() as u64).to_le_bytes()).update(n).update(e)
        }
    };
    *hasher.finalize().as_bytes()
}

/// The library checks signature and algorithm; the claims are validated here, more strictly than it would.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>, Fault> {
    let parse = |name: &String| {
        name.parse().map_err(|_| {
            let known = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";
            ("algorithms", format!("unknown algorithm `{name}`: expected one of {known}"))
        })
    };
    names.iter().map(parse).collect()
}

/// The key and its default algorithm.
fn read_public_key(pem: &str) -> Result<(DecodingKey, Algorithm), String> {
    if !pem.contains("-----BEGIN ") {
        return Err(
            "expected a key in PEM (`-----BEGIN PUBLIC KEY-----`); for a file write `${file:/path/key.pem}`".into()
        );
    }
    if pem.contains("PRIVATE KEY-----") {
        return Err("this is a private key: use the public key".into());
    }
    let bytes = pem.as_bytes();
    DecodingKey::from_rsa_pem(bytes)
        .map(|key| (key, Algorithm::RS256))
        .or_else(|_| DecodingKey::from_ec_pem(bytes).map(|key| (key, Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_ed_pem(bytes).map(|key| (key, Algorithm::EdDSA)))
        .map_err(|_| "not an RSA, ECDSA or EdDSA public key".into())
}

pub fn keys_of(set: &JwkSet, allowed: &[Algorithm]) -> Result<Vec<Key>, Fault> {
    let mut keys = Vec::new();
    for jwk in &set.keys {
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            continue;
        }
        // Sets are shared with others, who may use kinds of keys that we do not know.
        let Some(usual) = usual_algorithm(jwk) else { continue };
        let Ok(key) = DecodingKey::from_jwk(jwk) else { continue };
        if let Ok(key) = Key::new(jwk.common.key_id.clone(), key, usual, allowed) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(("jwks", "the set has no key that can verify a token".into()));
    }
    Ok(keys)
}

/// The algorithm of a key of a set: the one it names, else the usual one of its type.
fn usual_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let by_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(key) => {
            let secret = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &key.value).ok()?;
            (secret.len() >= MIN_SECRET_BYTES).then_some(Algorithm::HS256)?
        }
        _ => return None,
    };
    match jwk.common.key_algorithm {
        None => Some(by_kind),
        Some(named) => named.to_string().parse().ok(),
    }
}

/// Whether a shared secret can be one.
pub fn validate_secret(secret: &str) -> Result<(), String> {
    const OBVIOUS: [&str; 5] = ["changeme", "changethis", "replaceme", "yoursecret", "your256bitsecret"];
    if secret.len() < MIN_SECRET_BYTES {
        let len = secret.len();
        return Err(format!(
            "the secret has {len} bytes, the minimum is {MIN_SECRET_BYTES}: `openssl rand -hex 32` makes one"
        ));
    }
    let plain: String = secret.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    let mut kinds: Vec<u8> = secret.bytes().collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() < 8 || OBVIOUS.iter().any(|word| plain.contains(word)) {
        return Err("the secret is easy to guess: `openssl rand -hex 32` makes a better one".into());
    }
    Ok(())
}

/// Whether a claim (a text or a list of texts) names one of those wanted; anything does if none is.
fn names_one_of(claim: Option<&Value>, wanted: &[String]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let is_wanted = |value: &Value| value.as_str().is_some_and(|text| wanted.iter().any(|one| one == text));
    match claim {
        Some(Value::Array(list)) => list.iter().any(is_wanted),
        Some(value) => is_wanted(value),
        None => false,
    }
}

/// A time from 1970 to the year 9999 in whole seconds; RFC 7519 allows fractions, and Python's `time.time()` has them.
fn seconds(claim: &Value) -> Option<i64> {
    let seconds = claim.as_i64().or_else(|| claim.as_f64().map(|seconds| seconds.floor() as i64))?;
    (0..=LAST_SECOND).contains(&seconds).then_some(seconds)
}

/// The role by the claims: a user unless a claim has exactly the right value.
fn role(claims: &Map<String, Value>) -> Role {
    if claims.get("is_admin") == Some(&Value::Bool(true)) {
        return Role::Admin;
    }
    claims.get("role").and_then(Value::as_str).and_then(Role::parse).unwrap_or(Role::User)
}

/// Whom a token is for and from, as a verifier wants to read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub audience: Option<String>,
    pub issuer: Option<String>,
    /// `sub` if absent.
    pub user_claim: Option<String>,
}

impl Terms {
    /// Those under which this configuration believes a token.
    pub fn of(config: &config::Jwt) -> Terms {
        Terms {
            audience: config.audience.0.first().cloned(),
            issuer: config.issuer.0.first().cloned(),
            user_claim: config.user_claim.clone(),
        }
    }
}

/// Makes a token for a user, signed with HS256. Times are in seconds since 1970.
pub fn mint(secret: &str, user: &str, role: Role, terms: &Terms, now: i64, expires: i64) -> Result<String, String> {
    validate_secret(secret)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| format!("the operating system has no random bytes: {error}"))?;
    let id = URL_SAFE_NO_PAD.encode(id);
    let mut claims = serde_json::json!({ "sub": user, "role": role.as_str(), "iat": now, "exp": expires, "jti": id });
    let more = [("aud", &terms.audience), ("iss", &terms.issuer)];
    more.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).for_each(|(name, value)| {
        claims[name] = value.as_str().into();
    });
    if let Some(claim) = &terms.user_claim {
        claims[claim] = user.into();
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| format!("cannot sign the token: {error}"))
}
