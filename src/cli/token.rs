//! `weir token`: mints a JWT with the secret of the configuration or of the data folder.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Configuration;
use crate::api::{SECRET_FILE, mint};
use crate::net::Role;
use crate::net::auth::jwt::Terms;
use crate::secret::Secret;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Name of the user
    #[arg(long, value_name = "NAME")]
    user: String,
    /// What the user may do
    #[arg(long, value_enum, default_value = "user")]
    role: Word,
    /// How long the token is good, such as 8h
    #[arg(long, default_value = "8h", value_parser = duration)]
    ttl: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Word {
    User,
    #[value(alias = "guest")]
    Viewer,
    Admin,
    Ingest,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<crate::units::Duration>().map(Duration::from).map_err(|error| error.to_string())
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let plan = loaded.plan;
    let jwt = plan.settings.api.auth.as_ref().map(|auth| auth.jwt.as_ref());
    let secret = match jwt {
        Some(jwt) => jwt.and_then(|jwt| jwt.secret.clone()),
        None => secret_of(&plan.data_dir),
    };
    let terms = jwt.flatten().map(Terms::of).unwrap_or_default();
    let Some(secret) = secret else {
        return super::complain(match &plan.settings.api.auth {
            Some(_) => {
                "tokens of this configuration are signed by somebody else: `api.auth.jwt.secret` is not set".into()
            }
            None => format!(
                "there is no secret at `{}` yet: it is made when the agent starts for the first time",
                plan.data_dir.join(SECRET_FILE).display()
            ),
        });
    };
    let role = match arguments.role {
        Word::User => Role::User,
        Word::Viewer => Role::Viewer,
        Word::Admin => Role::Admin,
        Word::Ingest => Role::Ingest,
    };
    match mint(&secret, &arguments.user, role, &terms, arguments.ttl) {
        Ok(token) => super::print(&format!("{token}\n")),
        Err(message) => super::complain(message),
    }
}

fn secret_of(data_dir: &Path) -> Option<Secret<String>> {
    std::fs::read_to_string(data_dir.join(SECRET_FILE)).ok().map(|text| Secret::new(text.trim().to_owned()))
}

/// A short-lived administrator's token for commands, where the secret can be read.
pub fn of_data_dir(data_dir: &Path) -> Option<String> {
    mint(&secret_of(data_dir)?, "weir-cli", Role::Admin, &Terms::default(), Duration::from_secs(60)).ok()
}
