//! Panics: contained where one event can be blamed, and logged as one line without event data.

use std::any::Any;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// The longest message of a panic that is kept.
const MAX_MESSAGE: usize = 200;

/// Logs every panic from now on through the agent's log, in its format. A backtrace follows if `RUST_BACKTRACE` asks.
pub fn log_panics() {
    std::panic::set_hook(Box::new(log));
}

/// Runs something that one event or text may break; a panic becomes its message.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic))
}

/// What a panic said, up to where it quotes: the standard library quotes the text that it could not slice, which may
/// be an event.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "without a message".to_owned(), without_data)
}

fn without_data(text: &str) -> String {
    let end = text.find(['`', '"', '\'', '\n', '{', '[']).unwrap_or(text.len()).min(MAX_MESSAGE);
    let end = text.floor_char_boundary(end);
    let kept = text[..end].trim_end();
    if end < text.len() { format!("{kept} …") } else { kept.to_owned() }
}

fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let panic = text.map_or_else(|| "without a message".to_owned(), without_data);
    let trace = std::backtrace::Backtrace::capture();
    let thread = thread.name().unwrap_or("unnamed");
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(panic, place, thread, backtrace = %trace, "a bug in weir: a panic was caught");
    } else {
        tracing::error!(panic, place, thread, "a bug in weir: a panic was caught");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_none_of_the_text_it_is_about() {
        let secret = "pä password=hunter2";
        let message = contain(|| secret[..2].len()).unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
        let message = contain(|| assert_eq!(secret, "")).unwrap_err();
        assert!(!message.contains("hunter2"), "{message}");
        let failed: Result<(), String> = secret.parse::<u8>().map(drop).map_err(|_| secret.to_owned());
        let message = contain(|| failed.expect("it works")).unwrap_err();
        assert_eq!(message, "it works: …");
        assert_eq!(contain(|| panic!("index {} of {}", 7, 3)).map(|(): ()| ()).unwrap_err(), "index 7 of 3");
    }
}
