//! Plain data: events, batches, and the JSON they consist of.

pub mod aliases;
pub mod batch;
pub mod cut;
pub mod decimal;
pub mod escape;
pub mod huge;
pub mod id;
pub mod lines;
pub mod names;
pub mod object;
pub mod raw;
pub mod scalar;
pub mod scan;
#[cfg(target_arch = "x86_64")]
mod simd;
pub mod time;
#[cfg(target_arch = "x86_64")]
mod walk;

pub use batch::{Batch, Capture, Place, Provenance, Sender, Stamp};
pub use id::{Id, Seed};
pub use lines::{Lines, Origins};
pub use names::NameId;
pub use raw::{Kind, Raw};
pub use scan::{Scanner, Unfit};
