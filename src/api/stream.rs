//! live streams (stand-in)
use super::{Api, access::Reader};
use crate::net::http::{Body, Problem};
use hyper::{Request, Response, body::Incoming};
pub fn open(_: &Api, _: &Request<Incoming>, _: Reader) -> Result<Response<Body>, Problem> {
    Err(Problem::not_found())
}
