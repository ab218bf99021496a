//! Forbidden patterns in code: built-in groups, and expressions from the configuration.

use regex::{Regex, RegexBuilder};

use super::Look;
use super::config::Rule;

/// What one expression may take in memory.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Bytes of code that are looked at.
const MAX_CODE: usize = 1 << 20;

/// The built-in groups.
const GROUPS: [(&str, &str); 3] = [
    (
        "credentials",
        r"(?i)\.aws/credentials|\.ssh/(id_|authorized_keys)|/etc/(shadow|sudoers)|\.netrc|\.pgpass|\.git-credentials|\.docker/config\.json|\.kube/config|/var/run/secrets/|/proc/\w+/environ|169\.254\.169\.254|metadata\.google\.internal",
    ),
    (
        "network",
        r"(?i)\b(urllib\.request|requests\.(get|post|put|request|Session)|httpx\.|aiohttp\.|http\.client|socket\.(socket|create_connection)|paramiko|ftplib|smtplib|telnetlib)\b|\b(curl|wget|nc|ncat|scp|rsync|ssh)\s+\S",
    ),
    (
        "shell",
        r"(?i)\bos\.(system|popen|exec\w+|spawn\w+)\s*\(|\bsubprocess\.|\bpty\.spawn|^\s*[!%]{1,2}\s*(bash|sh|system)\b|get_ipython\(\)\.system",
    ),
];

/// The expressions of a rule, each with its name in alerts.
#[derive(Debug, Default)]
pub struct Patterns(Vec<(String, Regex)>);

/// Compiles them, or returns which one is invalid.
pub fn read(texts: &[String]) -> Result<Patterns, (usize, String)> {
    let one = |(nth, text): (usize, &String)| {
        let built_in = GROUPS.iter().find(|(name, _)| name == text).map(|(_, pattern)| *pattern);
        let regex = RegexBuilder::new(built_in.unwrap_or(text)).multi_line(true).size_limit(MAX_REGEX_BYTES).build();
        let regex = regex.map_err(|error| {
            let text = error.to_string();
            (nth, format!("invalid pattern: {}", text.lines().last().unwrap_or_default().trim()))
        })?;
        Ok((text.clone(), regex))
    };
    texts.iter().enumerate().map(one).collect::<Result<_, _>>().map(Patterns)
}

/// The names of what stands in the code of an event; `None` if it has nothing of it.
pub fn found(rule: &Rule, look: &Look<'_>) -> Option<String> {
    let field = rule.field.clone().unwrap_or_else(|| vec!["code".to_owned()]);
    let code = look.batch.get_path(look.event, &field)?.as_str()?;
    let looked_at = &code[..code.floor_char_boundary(MAX_CODE)];
    let found = rule.patterns.0.iter().filter(|(_, regex)| regex.is_match(looked_at));
    let names: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
