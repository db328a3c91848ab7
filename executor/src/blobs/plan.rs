//! Which source is asked next for a content: decisions, no deeds.

use std::collections::VecDeque;

/// Most sources of one content; others are not tried.
const MAX_SOURCES: usize = 32;

/// Sources in the order in which they are tried. What one could not finish,
/// the next goes on with. When the whole is then not what it should be, nobody
/// knows who lied, so each of them is tried once more, alone.
#[derive(Debug, Default)]
pub(super) struct Plan {
    waiting: VecDeque<String>,
    known: Vec<String>,
    /// Whose bytes are in the room now.
    gave: Vec<String>,
    /// No source goes on with what another one began.
    alone: bool,
}

impl Plan {
    /// More sources, the best first; those that are known have their place.
    pub(super) fn add(&mut self, sources: Vec<String>) {
        for source in sources {
            if self.known.len() < MAX_SOURCES && !self.known.contains(&source) {
                self.known.push(source.clone());
                self.waiting.push_back(source);
            }
        }
    }

    /// Whom to ask now.
    pub(super) fn next(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }

    /// A source gave bytes.
    pub(super) fn gave(&mut self, source: String) {
        self.gave.push(source);
    }

    /// A source broke off, or has nothing. Whether the next goes on where it was,
    /// if what is there can be `used`.
    pub(super) fn broke_off(&mut self, used: bool) -> bool {
        let goes_on = used && !self.alone;
        if !goes_on {
            self.gave.clear();
        }
        goes_on
    }

    /// The content is not what its digest names; those who may be to blame.
    pub(super) fn mismatched(&mut self) -> Vec<String> {
        let suspects = std::mem::take(&mut self.gave);
        if suspects.len() > 1 {
            self.waiting.extend(suspects.iter().cloned());
            self.alone = true;
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sources: &[&str]) -> Plan {
        let mut plan = Plan::default();
        plan.add(sources.iter().map(|source| (*source).to_owned()).collect());
        plan
    }

    #[test]
    fn sources_are_tried_once_in_their_order_and_only_so_many() {
        let mut tried = plan(&["a", "b", "a"]);
        tried.add(vec!["b".to_owned(), "c".to_owned()]);
        assert_eq!(std::iter::from_fn(|| tried.next()).collect::<Vec<_>>(), ["a", "b", "c"]);
        tried.add(vec!["a".to_owned()]);
        assert_eq!(tried.next(), None);
        let mut many = Plan::default();
        many.add((0..100).map(|number| number.to_string()).collect());
        assert_eq!(std::iter::from_fn(|| many.next()).count(), MAX_SOURCES);
    }

    #[test]
    fn who_lied_alone_is_not_asked_again() {
        let mut plan = plan(&["a", "b"]);
        let first = plan.next().unwrap();
        plan.gave(first);
        assert_eq!(plan.mismatched(), ["a"]);
        assert_eq!(plan.next().as_deref(), Some("b"));
        assert!(plan.broke_off(true));
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn of_several_who_may_have_lied_each_is_asked_once_more_and_alone() {
        let mut plan = plan(&["a", "b"]);
        for _ in 0..2 {
            let source = plan.next().unwrap();
            plan.gave(source);
            assert!(plan.broke_off(true), "the next goes on");
        }
        assert_eq!(plan.mismatched(), ["a", "b"]);
        let first = plan.next().unwrap();
        assert_eq!(first, "a");
        plan.gave(first);
        assert!(!plan.broke_off(true), "what it gave is not trusted");
        let second = plan.next().unwrap();
        plan.gave(second);
        assert_eq!(plan.mismatched(), ["b"]);
        assert_eq!(plan.next(), None);
    }
}
