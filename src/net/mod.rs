//! Listeners and their protocols: addresses, TLS, HTTP, who may come in.

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

pub use address::Address;
pub use auth::{Gate, Principal, Role};
pub use listen::{Acceptor, Listener};
pub use sockets::{Endpoint, Sockets};
