//! `weir health`: asks the running agent, for container health checks that have no curl.

use std::process::ExitCode;

use hyper::Method;

use super::client::Connection;

pub fn run(connection: Connection) -> ExitCode {
    match connection.ask(Method::GET, "/health") {
        Ok(answer) if answer.status.is_success() => super::print("healthy\n"),
        Ok(answer) => super::complain(format!("unhealthy: {}", answer.problem())),
        Err(message) => super::complain(message),
    }
}
