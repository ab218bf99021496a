//! Classifies connection errors from the error chains of libraries.

use std::error::Error;
use std::io;

/// The last reason of a chain is the most specific, and contains the ones before it.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    // The system's numbers in brackets are no help here.
    let text = last.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Whether the other side could not show that it is who it should be.
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = unwrapped(error).downcast_ref() {
            return true;
        }
        next = error.source();
    }
    false
}

/// What errors of input and output hide inside, however often they were wrapped.
fn unwrapped<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => unwrapped(inner),
        None => error,
    }
}
