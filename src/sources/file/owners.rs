//! Names of the users who own files.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::event::Stamp;

/// Users whose names are kept.
const MOST_KEPT: usize = 10_000;

#[derive(Default)]
pub struct Owners {
    stamps: HashMap<u32, Arc<Stamp>>,
}

impl Owners {
    /// The stamp of a file's owner.
    pub fn stamp(&mut self, user: u32) -> Arc<Stamp> {
        if self.stamps.len() >= MOST_KEPT {
            self.stamps.clear();
        }
        self.stamps.entry(user).or_insert_with(|| Arc::new(Stamp::User(name(user)))).clone()
    }
}

/// The name in the system's own list, else what the system's other directories (LDAP, SSSD) say, else the number.
fn name(user: u32) -> String {
    let local = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&local, user).or_else(|| ask(user)).unwrap_or_else(|| user.to_string())
}

fn ask(user: u32) -> Option<String> {
    let answer = Command::new("getent").args(["passwd", &user.to_string()]).stdin(Stdio::null()).output().ok()?;
    find(&String::from_utf8_lossy(&answer.stdout), user)
}

fn find(passwd: &str, user: u32) -> Option<String> {
    let user = user.to_string();
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == user).then(|| name.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_and_an_unknown_one_numbered() {
        assert_eq!(find("root:x:0:0:root:/root:/bin/sh\nali:x:1000:1000::/home/ali:", 1000), Some("ali".into()));
        assert_eq!(*Owners::default().stamp(0), Stamp::User("root".into()));
        assert_eq!(*Owners::default().stamp(3_999_999_999), Stamp::User("3999999999".into()));
    }
}
