//! The built-in tokens: what each vendor documents about the form of its secrets, one line each.

use super::Group;

/// A kind of token. `shapes` are in the notation of `shape.rs`; `check` has the last word.
pub struct Rule {
    pub name: &'static str,
    pub shapes: &'static [&'static str],
    pub check: fn(&[u8]) -> bool,
}

const fn rule(name: &'static str, shapes: &'static [&'static str]) -> Rule {
    Rule { name, shapes, check: |_| true }
}

const fn mixed(name: &'static str, shapes: &'static [&'static str]) -> Rule {
    Rule { name, shapes, check: is_mixed }
}

/// Rules that are code, not shapes, in the order of their numbers; the tokens of [`TOKENS`] follow.
pub const FINDERS: &[(&str, Group)] = &[
    ("email", Group::Personal),
    ("card", Group::Financial),
    ("iban", Group::Financial),
    ("private_key", Group::Secrets),
    ("connection_string", Group::Credentials),
    ("credential", Group::Credentials),
    ("authorization", Group::Credentials),
    ("secret_field", Group::Keys),
    ("unfinished", Group::Keys),
];

pub const EMAIL: u16 = 0;
pub const CARD: u16 = 1;
pub const IBAN: u16 = 2;
pub const PRIVATE_KEY: u16 = 3;
pub const CONNECTION: u16 = 4;
pub const CREDENTIAL: u16 = 5;
pub const AUTHORIZATION: u16 = 6;
pub const SECRET_FIELD: u16 = 7;
pub const UNFINISHED: u16 = 8;

/// All of group `secrets`.
#[rustfmt::skip]
pub const TOKENS: &[Rule] = &[
    // Clouds
    rule("aws_access_key", &["A[KS]IA{u16}"]),
    rule("aws_bedrock_key", &["ABSK{B100+}"]),
    rule("google_api_key", &["AIza{b35}"]),
    rule("google_oauth", &["GOCSPX-{b28}", "ya29.{b20+}"]),
    rule("azure_sas", &["sig={p43+}"]),
    mixed("azure_client_secret", &["{c3}8Q~{c31-34}"]),
    rule("digitalocean_token", &["do[por]_v1_{h64}"]),
    rule("databricks_token", &["dapi{h32}", "dapi{h32}-{d1}"]),
    rule("alibaba_key", &["LTAI{w20}"]),
    rule("heroku_key", &["HRKU-{b36+}"]),
    rule("cloudflare_origin_key", &["v1.0-{h24}-{h146}"]),
    rule("planetscale_token", &["pscale_tkn_{c32+}", "pscale_pw_{c32+}", "pscale_oauth_{c32+}"]),
    rule("supabase_token", &["sbp_{h40}"]),
    rule("fly_token", &["FlyV1 fm[12]_{B100+}"]),
    rule("pulumi_token", &["pul-{h40}"]),
    rule("terraform_token", &["{w14}.atlasv1.{b60+}"]),
    // Code and packages
    rule("github_token", &["gh[pousr]_{w36+}", "github_pat_{w22}_{w59}"]),
    rule("gitlab_token", &["glpat-{c20+}", "gldt-{b20+}", "glrt-{c20+}", "glcbt-{b20+}", "glptt-{h40}", "glsoat-{b20+}"]),
    rule("npm_token", &["npm_{w36}"]),
    rule("pypi_token", &["pypi-AgE{b50+}"]),
    rule("rubygems_token", &["rubygems_{h48}"]),
    rule("docker_token", &["dckr_[op]at_{b27+}"]),
    rule("jfrog_token", &["AKCp{w69}"]),
    rule("buildkite_token", &["bkua_{h40}"]),
    rule("sourcegraph_token", &["sgp_{h40}", "sgp_{h16}_{h40}"]),
    rule("postman_key", &["PMAK-{h24}-{h34}"]),
    rule("atlassian_token", &["AT[AC]TT3{B20+}", "AT[AC]TT3{b60+}={H8}", "AT[AC]TT3{b60+}"]),
    // Models
    mixed("openai_key", &["sk-{w48}", "sk-{w20}T3BlbkFJ{w20}", "sk-proj-{b40+}", "sk-svcacct-{b40+}", "sk-admin-{b40+}"]),
    rule("anthropic_key", &["sk-ant-{b24+}"]),
    mixed("huggingface_token", &["hf_{w34}", "api_org_{w34}"]),
    rule("replicate_token", &["r8_{w37}"]),
    rule("groq_key", &["gsk_{w52}"]),
    rule("xai_key", &["xai-{w80}"]),
    rule("perplexity_key", &["pplx-{w48}"]),
    rule("langsmith_key", &["lsv2_[ps][tk]_{h32}_{h10}"]),
    // Messages
    rule("slack_token", &["xox[abceoprs]-{b10+}", "xapp-{d1}-{u9+}-{d10+}-{h64}"]),
    rule("slack_webhook", &["hooks.slack.com/services/T{u8+}/B{u8+}/{w24}", "hooks.slack.com/workflows/T{u8+}/A{u8+}/{d17-19}/{w24}"]),
    rule("discord_webhook", &["discord.com/api/webhooks/{d17-20}/{b60+}", "discordapp.com/api/webhooks/{d17-20}/{b60+}"]),
    rule("telegram_token", &["{d8-10}:AA{b33}"]),
    rule("twilio_key", &["SK{h32}"]),
    rule("sendgrid_key", &["SG.{b22}.{b43}"]),
    rule("mailgun_key", &["key-{h32}"]),
    rule("mailchimp_key", &["{h32}-us{d1-2}"]),
    // Money and shops
    rule("stripe_key", &["[sr]k_live_{w24+}", "[sr]k_test_{w24+}", "whsec_{B32+}"]),
    rule("shopify_token", &["shp[acpsu][atrs]_{H32}"]),
    rule("square_token", &["sq0[ac][ts]p-{b22+}", "EAAA[lE]{b59}"]),
    rule("easypost_key", &["EZ[AT]K{w54}"]),
    // Work tools
    rule("linear_key", &["lin_api_{w40}"]),
    rule("notion_token", &["ntn_{w40+}", "secret_{w43}"]),
    rule("figma_token", &["figd_{b40+}", "figo_{b40+}", "figu_{b40+}"]),
    rule("dropbox_token", &["sl.{b130+}", "sl.u.{b130+}"]),
    Rule { name: "airtable_token", shapes: &["{w17}.{h64}"], check: |text| text.starts_with(b"pat") },
    rule("doppler_token", &["dp.[scp]t.{w40+}", "dp.[scp]t.{w2+}.{w40+}", "dp.scim.{w40+}"]),
    rule("vault_token", &["hv[sbr].{b24+}"]),
    rule("age_key", &["AGE-SECRET-KEY-1{u58}"]),
    // Watching
    rule("new_relic_key", &["NRAK-{u27}", "NRII-{b32}", "NRJS-{h19}"]),
    rule("grafana_token", &["glsa_{w32}_{H8}", "glc_{B32+}"]),
    rule("sentry_token", &["sntrys_{B60+}", "sntryu_{h64}"]),
    rule("dynatrace_token", &["dt0[a-z]01.{u24}.{u64}", "dt0c01.{u24}.{u64}"]),
    rule("tailscale_key", &["tskey-{b20+}"]),
    // Everywhere
    rule("jwt", &["eyJ{b8+}.eyJ{b8+}.{b10+}"]),
];

/// Random text of some length has digits and capital letters; an identifier has not.
fn is_mixed(text: &[u8]) -> bool {
    let random = &text[3.min(text.len())..];
    random.iter().any(u8::is_ascii_digit) && random.iter().any(u8::is_ascii_uppercase)
}
