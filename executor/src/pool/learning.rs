//! Which modules a zygote should learn from what sessions import, and when.
//! Decides; whoever asks does it, and gives the time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use clutch_worker_link::{MAX_IMPORTED, MAX_MODULE_NAME_BYTES};

/// Modules that are counted. What comes later falls out.
const MAX_SEEN: usize = 4096;

/// Modules that are learned, the most used first.
const MAX_LEARNED: usize = 512;

/// How long nothing may have been forked or reported.
const QUIET: Duration = Duration::from_secs(1);

/// From one lesson to the next; doubled by each lesson, so that a zygote that
/// always finds something new does not import all day.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long a busy machine puts a lesson off, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What sessions imported, and what was made of it.
#[derive(Debug)]
pub(super) struct Learning {
    /// In how many workers each module was imported, beyond what their zygote
    /// had. What is learned is not counted any more, and keeps its place.
    seen: HashMap<String, u64>,
    /// What the zygote imports besides the operator's list, by name.
    learned: Vec<String>,
    /// Packages that are not learned: they start threads, or break zygotes.
    refused: HashSet<String>,
    /// Since when there is something to learn.
    waits_since: Option<Instant>,
    quiet_since: Instant,
    not_before: Instant,
    pause: Duration,
}

/// What to do about a lesson.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// There is none.
    Nothing,
    /// Ask again then.
    Later(Instant),
    /// Start a zygote with these modules now.
    Now(Vec<String>),
}

impl Learning {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            seen: HashMap::new(),
            learned: Vec::new(),
            refused: HashSet::new(),
            waits_since: None,
            quiet_since: now,
            not_before: now,
            pause: FIRST_PAUSE,
        }
    }

    /// What the zygote should import besides the operator's list.
    pub(super) fn learned(&self) -> &[String] {
        &self.learned
    }

    /// A worker imported modules. They are names by a worker's account: what
    /// no module can be called is dropped.
    pub(super) fn imported(&mut self, modules: Vec<String>, now: Instant) {
        for module in modules.into_iter().take(MAX_IMPORTED).filter(|name| is_module(name)) {
            if self.refused.contains(package(&module)) {
                continue;
            }
            if let Some(count) = self.seen.get_mut(&module) {
                *count += 1;
            } else if self.seen.len() < MAX_SEEN {
                self.seen.insert(module, 1);
            }
        }
        self.quiet_since = now;
        let news = self.best() != self.learned;
        self.waits_since = news.then(|| self.waits_since.unwrap_or(now));
    }

    /// A worker was forked; others may follow.
    pub(super) const fn forked(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// Whether nothing was forked lately. If not, when to ask again.
    pub(super) fn quiet(&self, now: Instant) -> Result<(), Instant> {
        let quiet = self.quiet_since + QUIET;
        if now < quiet { Err(quiet) } else { Ok(()) }
    }

    /// Whether to start a zygote that knows more. `busy` tells whether the
    /// machine has other things to do, and is asked only when it matters.
    pub(super) fn lesson(&self, now: Instant, busy: impl FnOnce() -> bool) -> Lesson {
        let Some(waits_since) = self.waits_since else { return Lesson::Nothing };
        let due = self.not_before.max(self.quiet_since + QUIET);
        if now < due {
            return Lesson::Later(due);
        }
        if now < waits_since + PATIENCE && busy() {
            return Lesson::Later(now + LOOK_AGAIN);
        }
        Lesson::Now(self.best())
    }

    /// A zygote was started for a lesson.
    pub(super) fn began(&mut self, now: Instant) {
        self.waits_since = None;
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// The zygote has these modules now.
    pub(super) fn succeeded(&mut self, modules: Vec<String>) {
        self.learned = modules;
    }

    /// A zygote cannot have these modules; their packages are not tried again.
    pub(super) fn refuse(&mut self, modules: &[String], now: Instant) {
        self.refused.extend(modules.iter().map(|module| package(module).to_owned()));
        let refused = &self.refused;
        self.seen.retain(|module, _| !refused.contains(package(module)));
        self.learned.retain(|module| !refused.contains(package(module)));
        let news = self.best() != self.learned;
        self.waits_since = news.then_some(now);
    }

    /// The most used, by name: a package comes before what it contains.
    fn best(&self) -> Vec<String> {
        let mut modules: Vec<_> = self.seen.iter().collect();
        modules.sort_by(|(one, often), (other, oftener)| oftener.cmp(often).then(one.cmp(other)));
        modules.truncate(MAX_LEARNED);
        let mut names: Vec<_> = modules.into_iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }
}

/// Whether this is the dotted name of a module.
fn is_module(name: &str) -> bool {
    let identifier = |part: &str| {
        part.chars().all(|c| c.is_alphanumeric() || c == '_')
            && part.starts_with(|c: char| c.is_alphabetic() || c == '_')
    };
    name.len() <= MAX_MODULE_NAME_BYTES && name.split('.').all(identifier)
}

/// `sklearn` of `sklearn.ensemble`.
fn package(module: &str) -> &str {
    module.split('.').next().unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| String::from(*name)).collect()
    }

    fn now(learning: &Learning, at: Instant) -> Vec<String> {
        let Lesson::Now(modules) = learning.lesson(at, || false) else { panic!("{learning:?}") };
        modules
    }

    #[test]
    fn what_was_imported_is_learned_when_it_is_quiet_and_once() {
        let begin = Instant::now();
        let mut learning = Learning::new(begin);
        assert_eq!(learning.lesson(begin, || false), Lesson::Nothing);
        learning.imported(names(&["pandas", "numpy.fft", "numpy"]), begin);
        learning.forked(begin + QUIET / 2);
        let due = begin + QUIET / 2 + QUIET;
        assert_eq!(learning.lesson(begin + QUIET, || false), Lesson::Later(due));
        assert_eq!(learning.quiet(begin + QUIET), Err(due));
        let modules = now(&learning, due);
        assert_eq!(modules, names(&["numpy", "numpy.fft", "pandas"]));
        learning.began(due);
        assert_eq!(learning.lesson(due, || false), Lesson::Nothing);
        learning.succeeded(modules);
        // A worker of the old zygote says what is known by now.
        learning.imported(names(&["numpy"]), due);
        assert_eq!(learning.lesson(due + QUIET, || false), Lesson::Nothing);
    }

    #[test]
    fn each_lesson_makes_the_next_one_wait_longer() {
        let begin = Instant::now();
        let mut learning = Learning::new(begin);
        let mut pauses = Vec::new();
        for name in ["a", "b", "c"] {
            learning.imported(names(&[name]), begin);
            let due = match learning.lesson(begin + QUIET, || false) {
                Lesson::Later(due) => due,
                Lesson::Now(_) => begin + QUIET,
                Lesson::Nothing => panic!("{learning:?}"),
            };
            pauses.push(due - begin);
            learning.succeeded(now(&learning, due));
            learning.began(begin);
        }
        assert_eq!(pauses, [QUIET, FIRST_PAUSE, FIRST_PAUSE * 2]);
    }

    #[test]
    fn a_busy_machine_puts_a_lesson_off_and_not_for_ever() {
        let begin = Instant::now();
        let mut learning = Learning::new(begin);
        learning.imported(names(&["numpy"]), begin);
        let later = begin + QUIET;
        assert_eq!(learning.lesson(later, || true), Lesson::Later(later + LOOK_AGAIN));
        assert_eq!(learning.lesson(begin + PATIENCE, || true), Lesson::Now(names(&["numpy"])));
    }

    #[test]
    fn what_breaks_a_zygote_goes_with_its_package_and_the_rest_is_tried_again() {
        let begin = Instant::now();
        let mut learning = Learning::new(begin);
        learning.imported(names(&["bad", "bad.part", "good"]), begin);
        learning.began(begin);
        learning.refuse(&names(&["bad.part"]), begin);
        assert_eq!(now(&learning, begin + FIRST_PAUSE), names(&["good"]));
        learning.imported(names(&["bad"]), begin);
        assert_eq!(now(&learning, begin + FIRST_PAUSE), names(&["good"]));
    }

    #[test]
    fn only_names_of_modules_are_taken_and_only_so_many() {
        let begin = Instant::now();
        let mut learning = Learning::new(begin);
        let long = "a".repeat(MAX_MODULE_NAME_BYTES + 1);
        let bad = ["", "a.", ".a", "a b", "1a", "a,b", "-x", "a\n", "a/b", &long];
        learning.imported(names(&bad), begin);
        assert_eq!(learning.lesson(begin + QUIET, || false), Lesson::Nothing);
        for many in 0..10 {
            let report = (0..MAX_IMPORTED).map(|number| format!("m{many}_{number}")).collect();
            learning.imported(report, begin);
        }
        assert_eq!(learning.seen.len(), MAX_SEEN);
        learning.imported(names(&["m7_3", "later"]), begin);
        let modules = now(&learning, begin + QUIET);
        assert_eq!(modules.len(), MAX_LEARNED);
        assert!(modules.contains(&String::from("m7_3")), "the most used are learned");
    }
}
