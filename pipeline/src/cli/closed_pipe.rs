//! A reader that has seen enough (`lapidary status | head`) is no error: what would be printed is left, and the process ends.
//!
//! Rust ignores SIGPIPE, so that `println!` panics there. It is that panic which is turned into an ordinary end.

/// Ends the process when stdout has no reader any more; any other panic is told as before.
pub(super) fn end_quietly() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_of_stdout = |text: &str| text.starts_with("failed printing to stdout") && text.contains("Broken pipe");
        if panic.payload_as_str().is_some_and(is_of_stdout) {
            std::process::exit(0);
        }
        told(panic);
    }));
}
