//! What tasks can be kept from, in words.

use std::fmt::Write;

use clutch_sandbox::Sandbox;

use crate::error_chain::chain;

/// A paragraph, the last line ended.
pub(super) fn report(asked: Sandbox) -> String {
    let mut text = "\nWhat tasks can be kept from\n".to_owned();
    let kinds = [
        (Sandbox::Processes, "processes that are not their own"),
        (Sandbox::NoTcp, "these, and TCP"),
    ];
    for (kind, what) in kinds {
        let name = format!("sandbox {kind}");
        let answer = match kind.check() {
            Ok(()) => "can".to_owned(),
            Err(error) => format!("cannot: {}", chain(&error)),
        };
        let asked = if kind == asked { ", as you asked" } else { "" };
        // Writing to a string does not fail.
        writeln!(text, "  {name:<20}{what}{asked}; this machine {answer}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_marked_and_what_cannot_be_says_why() {
        let text = report(Sandbox::Processes);
        assert!(text.contains("  sandbox processes   processes that are not their own, as you"));
        assert_eq!(text.matches("as you asked").count(), 1);
        let can = Sandbox::NoTcp.check().is_ok();
        assert_eq!(text.matches("this machine can\n").count(), if can { 2 } else { 0 });
        assert!(!report(Sandbox::Off).contains("as you asked"));
    }
}
