//! Problems in configuration text: a tree with positions, and messages that point to them.
//!
//! Text becomes a tree of [`Node`]s (`yaml`), a tree becomes a component's own `Config` (`read`, by way of serde),
//! and whatever does not fit becomes a [`Problem`] with its place: all of them in one run, not only the first.

mod access;
mod core_schema;
mod de;
mod fault;
mod node;
mod placeholder;
mod private;
mod problem;
mod read;
mod render;
mod source;
mod spanned;
mod suggest;
mod unreliable;
pub mod yaml;

pub use de::hide_unread;
pub use node::{Entry, Kind, Node, Scalar};
pub use problem::{Problem, Problems, Severity};
pub use read::{from_yaml, place, read, read_anyway};
pub use render::{Report, render, report};
pub use source::{Position, Source, Sources, Span};
pub use spanned::Spanned;
pub use suggest::{known, nearest};
pub use unreliable::Unreliable;

/// The newtype name by which a `Secret` tells the reader that its text is private.
pub(crate) const SECRET: &str = "$weir::Secret";
