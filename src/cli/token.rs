//! `weir token`: creates a JWT with the secret of the configuration or the data folder.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Configuration;
use super::client::ADDRESS_FILE;
use crate::api::{SECRET_FILE, mint, own_secret};
use crate::config::Plan;
use crate::net::address::Address;
use crate::net::auth::jwt::Terms;
use crate::net::{Principal, Role};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Name of the user
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Role of the user
    #[arg(long, value_enum, default_value = "user")]
    role: Word,
    /// Lifetime of the token, such as 8h
    #[arg(long, default_value = "8h", value_parser = duration)]
    ttl: Duration,
    /// Print a link that opens the page with the token
    #[arg(long)]
    link: bool,
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
    let made = make(&arguments, &loaded.plan).and_then(|token| match arguments.link {
        true => Ok(link(&address(&loaded.plan)?, &token)),
        false => Ok(token),
    });
    match made {
        Ok(text) => super::print(&format!("{text}\n")),
        Err(message) => super::complain(message),
    }
}

fn make(arguments: &Arguments, plan: &Plan) -> Result<String, String> {
    let jwt = plan.settings.api.auth.as_ref().map(|auth| auth.jwt.as_ref());
    let secret = match jwt {
        Some(jwt) => jwt.and_then(|jwt| jwt.secret.clone()).ok_or_else(|| {
            "tokens of this configuration are signed elsewhere: `api.auth.jwt.secret` is not set".to_owned()
        })?,
        None => own_secret(&plan.data_dir)?.ok_or_else(|| {
            let path = plan.data_dir.join(SECRET_FILE);
            format!("no secret at `{}` yet: it is created when the agent first starts", path.display())
        })?,
    };
    let terms = jwt.flatten().map(Terms::of).unwrap_or_default();
    let role = match arguments.role {
        Word::User => Role::User,
        Word::Viewer => Role::Viewer,
        Word::Admin => Role::Admin,
        Word::Ingest => Role::Ingest,
    };
    if Principal::new(&*arguments.user, role).is_none() {
        return Err(format!("`{}` is not a valid user name", arguments.user));
    }
    mint(&secret, &arguments.user, role, &terms, arguments.ttl)
}

/// Where the page is: what the running agent has left in its data folder, else what the configuration says.
fn address(plan: &Plan) -> Result<String, String> {
    let api = &plan.settings.api;
    if let Ok(left) = std::fs::read_to_string(plan.data_dir.join(ADDRESS_FILE)) {
        return Ok(left.trim().to_owned());
    }
    let scheme = if api.tls.is_some() { "https" } else { "http" };
    match &api.address {
        _ if !api.enabled => Err("the API is disabled in this configuration".into()),
        Address::Unix(path) => {
            Err(format!("the API listens on the socket `{}`, which browsers cannot open", path.display()))
        }
        address => Ok(format!("{scheme}://{address}{}", api.base_path)),
    }
}

/// A link that opens the page; a token has no character that a query would have to escape.
pub fn link(url: &str, token: &str) -> String {
    format!("{}/?token={token}", url.trim_end_matches('/'))
}

/// The same with the secret of a configuration, if it has one.
pub fn of_plan(plan: &Plan) -> Option<String> {
    let jwt = plan.settings.api.auth.as_ref()?.jwt.as_ref()?;
    mint(jwt.secret.as_ref()?, "weir-cli", Role::Admin, &Terms::of(jwt), Duration::from_secs(60)).ok()
}

/// A short-lived administrator's token for commands, where the secret can be read.
pub fn of_data_dir(data_dir: &Path) -> Option<String> {
    let secret = own_secret(data_dir).ok().flatten()?;
    mint(&secret, "weir-cli", Role::Admin, &Terms::default(), Duration::from_secs(60)).ok()
}
