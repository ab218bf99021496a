//! The filter language: `status:error duration_ms:>1000 -type:kernel.start (host:a OR host:b) "free text"`.
//!
//! | written | means |
//! |---|---|
//! | `word`, `"some words"` | a string of the event contains the text, in any case; `id`, `timestamp` and `received_at` must be the text |
//! | `field:value` | the field is this value: numbers as numbers, text in any case; long texts (`code`, `description`, `error_message` …) contain it; of a list any element |
//! | `a.b:value` | the same for a member within an object |
//! | `field:val*` | `*` stands for any text |
//! | `field:(a OR b)` | one of several values |
//! | `field:>5` `>=` `<` `<=`, `field:[a TO b]`, `field:5..9` | in the range, both ends included, `*` (or nothing before or behind `..`) for an open one; numbers, times, else text |
//! | `has:field` | the field is there and not null |
//! | `~"regex"`, `field:~"regex"` | the pattern matches somewhere in a string |
//! | `-x`, `NOT x`, `a b`, `a AND b`, `a OR b`, `( )` | not, and, or; `OR` binds least |
//!
//! A day stands for all of it (`timestamp:>=2026-01-31`), and a time without an offset is UTC.

mod ast;
mod error;
mod expression;
mod foreign;
mod glob;
mod lex;
mod parse;
mod predicate;
pub mod request;
#[cfg(test)]
mod tests;

pub use ast::{Bound, Check, Expr, Op, Path, Pattern, Test, number, times};
pub use error::QueryError;
pub use predicate::{AnywhereTest, FieldTest, Query};

/// The longest query, in bytes.
pub const MAX_LEN: usize = 4096;
/// How deep parentheses and negations may nest.
pub const MAX_DEPTH: usize = 32;
/// The most tests in one query.
pub const MAX_TERMS: usize = 256;
/// The most regular expressions in one query, and what each may take in memory.
pub const MAX_REGEXES: usize = 16;
pub const MAX_REGEX_BYTES: usize = 1 << 20;
