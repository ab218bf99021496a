//! Units of configuration and events: sizes, durations, rates and timestamps.

mod duration;
mod many;
mod rate;
mod size;
mod text;
mod timestamp;
mod zone;

pub use duration::Duration;
pub use many::{OneOrMany, one_or_many};
pub use rate::Rate;
pub use size::ByteSize;
pub use text::Malformed;
pub use timestamp::Timestamp;
pub use zone::zone;
