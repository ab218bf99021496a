//! The most likely correction of a misspelt word.

/// At most this many names are listed in a hint.
const LISTED: usize = 24;

/// The known word nearest to `word`, if it is near enough to be a slip of the finger.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|&(away, candidate)| is_near(away, word, candidate) || shares_stem(&lower, candidate))
        .min_by_key(|&(away, _)| away)
        .map(|(_, candidate)| candidate)
}

/// Whether a word is another, but for a slip of the finger.
pub(super) fn is_slip(word: &str, other: &str) -> bool {
    is_near(distance(word, other), word, other)
}

fn is_near(away: usize, word: &str, other: &str) -> bool {
    let allowed = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    away <= allowed && away < other.chars().count()
}

/// A list of names for a hint: `known keys: address, auth, path`.
pub fn known<'k>(what: &str, names: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("known {what}: {}", names.join(", "))),
        (false, more) => Some(format!("known {what}: {} and {more} more", names.join(", "))),
    }
}

/// One word begins the other (`max` for `max_bytes`, `addresses` for `address`).
fn shares_stem(word: &str, candidate: &str) -> bool {
    word.len() >= 3 && (candidate.starts_with(word) || candidate.len() >= 3 && word.starts_with(candidate))
}

/// Edits between two words: insert, remove, replace, swap of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let known = ["address", "auth", "max_bytes", "when_full", "type"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("tpye", known), Some("type"));
        assert_eq!(nearest("max-bytes", known), Some("max_bytes"));
        assert_eq!(nearest("When_Full", known), Some("when_full"));
        assert_eq!(nearest("max", known), Some("max_bytes"));
        assert_eq!(nearest("compression", known), None);
        assert_eq!(nearest("x", known), None);
    }
}
