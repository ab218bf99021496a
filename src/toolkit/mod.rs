//! What several components share and no contract needs: HTTP ingest, lanes, event keys, HTTP statuses.

#[cfg(test)]
pub mod fake;
pub mod held;
pub mod ingest;
pub mod key;
pub mod lane;
pub mod reply;
#[cfg(test)]
pub(crate) mod testing;

pub use held::Held;
pub use ingest::IngestEndpoint;
pub use key::{EventKey, id_of};
pub use lane::Lane;
