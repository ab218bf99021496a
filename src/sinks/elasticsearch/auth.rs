//! Authentication: none, password, API key or token.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::{Secret, SecretMask};

/// Authentication to the cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ElasticsearchAuth")]
pub struct Auth {
    /// Type of authentication.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// For `basic`: the user name.
    pub user: Option<String>,
    /// For `basic`: the password; best given as `${VAR}` or `${file:…}`.
    pub password: Option<Secret<String>>,
    /// For `bearer`: a service account token or an OAuth2 token.
    pub token: Option<Secret<String>>,
    /// For `api_key`: the `encoded` key, or `id:key`.
    pub key: Option<Secret<String>>,
}

/// Ways to prove who the sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ElasticsearchAuthKind")]
pub enum Kind {
    #[default]
    None,
    Basic,
    /// A token of a service account, or of OAuth2.
    Bearer,
    ApiKey,
}

impl Auth {
    /// What to send; the error is for the operator and names the key at fault.
    pub fn header(&self) -> Result<Option<HeaderValue>, (&'static str, String)> {
        let needed = |name: &'static str, value: &Option<Secret<String>>| match value {
            Some(secret) if !secret.expose().is_empty() => Ok(secret.expose().clone()),
            _ => Err((name, format!("`{}` needs a `{name}`", self.kind.word()))),
        };
        let (used, text): (&[&str], _) = match self.kind {
            Kind::None => (&[], None),
            Kind::Basic => {
                let user = self.user.as_deref().filter(|user| !user.is_empty());
                let user = user.ok_or_else(|| ("user", "`basic` needs a `user`".to_owned()))?;
                let pair = format!("{user}:{}", needed("password", &self.password)?);
                (&["user", "password"], Some(format!("Basic {}", BASE64_STANDARD.encode(pair))))
            }
            Kind::Bearer => (&["token"], Some(format!("Bearer {}", needed("token", &self.token)?))),
            Kind::ApiKey => {
                let key = needed("key", &self.key)?;
                // An encoded key has no colon in it.
                let key = if key.contains(':') { BASE64_STANDARD.encode(key) } else { key };
                (&["key"], Some(format!("ApiKey {key}")))
            }
        };
        let given = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("token", self.token.is_some()),
            ("key", self.key.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(name, is_given)| *is_given && !used.contains(name)) {
            return Err((name, format!("`{name}` does not apply to `type: {}`", self.kind.word())));
        }
        let Some(text) = text else { return Ok(None) };
        let place = used.last().copied().unwrap_or("type");
        let mut value = HeaderValue::try_from(text.trim())
            .map_err(|_| (place, format!("`{place}` contains a control character")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Hides our secrets where an answer quotes them, in each form in which they are sent.
    pub fn cover(&self, mask: &mut SecretMask) {
        let header = self.header().ok().flatten();
        if let Some((_, sent)) = header.as_ref().and_then(|value| value.to_str().ok()?.split_once(' ')) {
            mask.cover(sent);
        }
        for secret in [&self.password, &self.token, &self.key].into_iter().flatten() {
            mask.cover(secret.expose().trim());
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Basic => "basic",
            Kind::Bearer => "bearer",
            Kind::ApiKey => "api_key",
        }
    }
}
