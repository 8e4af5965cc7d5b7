//! Panics of other people's code on anybody's bytes (decoders, Parquet), caught: they are faults of the file, told with its
//! name, not the end of the run.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread's panics are caught and told.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `read`, or says what it panicked with. Other threads' panics are printed as ever.
///
/// # Errors
/// When it panics.
pub(crate) fn caught<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                print(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    // What the reader had in hand is dropped with it, or not used again: no broken state is seen afterwards.
    let result = catch_unwind(AssertUnwindSafe(read));
    CAUGHT.set(outer);
    result.map_err(|panic| format!("the reader panicked: {}", said(panic.as_ref())))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_later_ones_are_heard() {
        let sides = [3usize, 4];
        let told = caught(|| sides[sides.len() + 1]).expect_err("an index outside");
        assert!(told.starts_with("the reader panicked: index out of bounds"), "{told}");
        let inner = caught(|| (caught(|| panic!("{}", "deep")), CAUGHT.get())).expect("the outer does not panic");
        assert_eq!(inner, (Err("the reader panicked: deep".to_owned()), true));
        assert!(!CAUGHT.get());
        assert_eq!(caught(|| 5), Ok(5));
    }
}
