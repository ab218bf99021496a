//! Other names that producers use for canonical members: read by `normalize`, written by sinks.

use super::names::*;

/// Every alias with the canonical name it stands for. Of several aliases of one name, the first here is taken.
pub const ALIASES: &[(NameId, NameId)] = &[
    (ACTION, EVENT_TYPE),
    (ACTION_TYPE, EVENT_TYPE),
    (TYPE, EVENT_TYPE),
    (USERNAME, USER_ID),
    (USER, USER_ID),
    (USER_ID_CAMEL, USER_ID),
    (EXECUTION_TIME_MS, DURATION_MS),
    (DURATION, DURATION_MS),
    (DURATION_SECONDS, DURATION_MS),
    (DURATION_S, DURATION_MS),
    (MESSAGE, DESCRIPTION),
    (MSG, DESCRIPTION),
    (DETAILS, DESCRIPTION),
    (SUCCESS, STATUS),
    (RESOURCE_TYPE, ENTITY_TYPE),
    (TARGET_RESOURCE_ID, ENTITY_ID),
    (RESOURCE_ID, ENTITY_ID),
    (ERROR, ERROR_MESSAGE),
    (TIME, TIMESTAMP),
    (TS, TIMESTAMP),
    (AT_TIMESTAMP, TIMESTAMP),
];

/// Status words that producers use, in lower case, with the canonical word.
pub const STATUS_WORDS: &[(&str, &str)] = &[("ok", "success"), ("failed", "error"), ("failure", "error")];

/// Words of a text that says whether something succeeded, in lower case, with the canonical status.
pub const SUCCESS_WORDS: &[(&str, &str)] = &[
    ("true", "success"),
    ("t", "success"),
    ("yes", "success"),
    ("y", "success"),
    ("1", "success"),
    ("ok", "success"),
    ("false", "error"),
    ("f", "error"),
    ("no", "error"),
    ("n", "error"),
    ("0", "error"),
    ("failed", "error"),
    ("failure", "error"),
];

/// Every canonical status.
pub const STATUSES: &[&str] = &["success", "error", "warning", "in_progress", "aborted", "lost"];

/// The canonical name that `name` is an alias of.
pub fn canonical(name: NameId) -> Option<NameId> {
    ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, canonical)| *canonical)
}

/// The aliases of a canonical name, the preferred one first.
pub fn aliases(canonical: NameId) -> impl Iterator<Item = NameId> {
    ALIASES.iter().filter(move |(_, name)| *name == canonical).map(|(alias, _)| *alias)
}

/// Whether an event may have this member at its top level once it is normalised. `seq` is none of them: it is a
/// number that a reader is given with the event, never part of it.
pub fn is_canonical(name: NameId) -> bool {
    name <= REDACTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_alias_is_itself_canonical() {
        for (alias, name) in ALIASES {
            assert!(!is_canonical(*alias), "{}", KNOWN[alias.0 as usize]);
            assert!(is_canonical(*name), "{}", KNOWN[name.0 as usize]);
        }
        assert!(!is_canonical(SEQ));
    }

    #[test]
    fn aliases_are_found_both_ways() {
        assert_eq!(canonical(USERNAME), Some(USER_ID));
        assert_eq!(canonical(USER_ID), None);
        assert_eq!(aliases(ENTITY_ID).collect::<Vec<_>>(), [TARGET_RESOURCE_ID, RESOURCE_ID]);
    }
}
