//! Listeners and protocols: addresses, TLS, HTTP, authentication.

pub mod address;
pub mod auth;
pub mod client;
pub mod compress;
pub mod expiry;
mod fault;
pub mod http;
pub mod inflate;
pub mod kafka;
pub mod listen;
pub mod network;
pub mod origin;
pub mod postgres;
mod proxy_protocol;
pub mod sockets;
pub mod tls;
pub mod wire;

/// The class of a connection that ended in its TLS handshake.
pub const TLS_FAILURE: &str = "tls";
/// The class of one without a good header of the PROXY protocol.
pub const PROXY_FAILURE: &str = "proxy";

pub use address::Address;
pub use auth::{Authenticator, Principal, Role};
pub use listen::{Acceptor, Listener};
pub use sockets::{Endpoint, Sockets};
