//! What tasks can be kept from, in words.

use std::fmt::Write;

use clutch_sandbox::Sandbox;

use crate::error_chain::chain;

/// A paragraph, the last line ended.
pub(super) fn report(asked: Sandbox) -> String {
    let mut text = "\nWhat tasks can be kept from, by `sandbox`\n".to_owned();
    let kinds = [
        (Sandbox::Processes, "other processes than their own"),
        (Sandbox::NoTcp, "other processes and TCP"),
    ];
    for (kind, what) in kinds {
        let answer = match kind.check() {
            Ok(()) => "can".to_owned(),
            Err(error) => format!("cannot: {}", chain(&error)),
        };
        let asked = if kind == asked { ", as you asked" } else { "" };
        // Writing to a string does not fail.
        writeln!(text, "  {:<20}{what}{asked}; this machine {answer}", kind.name()).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_marked_and_what_cannot_be_says_why() {
        let text = report(Sandbox::Processes);
        assert!(
            text.contains("  processes           other processes than their own, as you asked;")
        );
        assert_eq!(text.matches("as you asked").count(), 1);
        let can = Sandbox::NoTcp.check().is_ok();
        assert_eq!(text.matches("this machine can\n").count(), if can { 2 } else { 0 });
        assert!(!report(Sandbox::Off).contains("as you asked"));
    }
}
