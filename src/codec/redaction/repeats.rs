//! Finds a secret again wherever else it stands in its text: printed, in a traceback, behind another name.

use super::Engine;
use super::random::is_random;
use super::reader::{Unfinished, Work};
use super::rules::{AUTHORIZATION, CONNECTION, CREDENTIAL};
use super::search::Span;

/// The shortest secret that is searched for, the longest, and how many of one text.
const MIN_LEN: usize = 12;
const MAX_LEN: usize = 4096;
const MAX_VALUES: usize = 8;
/// The most places that are added.
const MAX_PLACES: usize = 1000;

/// Whether one of the spans, which are in order and apart, holds a place.
fn is_covered(spans: &[Span], at: usize) -> bool {
    let next = spans.partition_point(|span| span.start <= at);
    next > 0 && at < spans[next - 1].end
}

impl Engine {
    /// Adds the other places of those secrets that only their surroundings gave away. `spans` are in order.
    pub(super) fn find_again(&self, text: &[u8], work: &mut Work, spans: &mut Vec<Span>) -> Result<bool, Unfinished> {
        let (known, mut values) = (spans.len(), 0);
        for nth in 0..known {
            let Span { start, end, rule, .. } = spans[nth];
            let by_surroundings = matches!(rule, CREDENTIAL | AUTHORIZATION | CONNECTION);
            if !by_surroundings || !(MIN_LEN..=MAX_LEN).contains(&(end - start)) || text.len() < 2 * (end - start) {
                continue;
            }
            if values == MAX_VALUES {
                break;
            }
            values += 1;
            work.spend(text.len())?;
            let value = &text[start..end];
            // Texts are short and a value stands there once: a searcher for it would cost more than to look.
            for at in memchr::memchr_iter(value[0], text) {
                if !text[at..].starts_with(value) || is_covered(&spans[..known], at) {
                    continue;
                }
                if spans.len() - known == MAX_PLACES || !is_random(value) {
                    break;
                }
                let why = "a secret that was found elsewhere in the text";
                spans.push(Span { start: at, end: at + value.len(), rule, why });
            }
        }
        Ok(spans.len() > known)
    }
}
