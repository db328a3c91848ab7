//! The agent as a whole: everything that can fail is built before anything is
//! served.

mod access;
mod build;
pub(crate) mod credentials;
mod lifeline;
mod ready;
mod serve;

use crate::cli::complain;
use crate::exit_code::Ending;
use crate::settings::{RawSettings, Settings};
use crate::telemetry;

/// Runs an agent to its end.
pub fn run(raw: RawSettings) -> Ending {
    let settings = match raw.with_file().and_then(Settings::resolve) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return Ending::Settings;
        }
    };
    if let Err(error) = telemetry::start(&settings.log) {
        complain(&error);
        return Ending::Settings;
    }
    let built = match build::build(settings) {
        Ok(built) => built,
        Err(error) => {
            complain(&error);
            return error.ending();
        }
    };
    let threads = threads(built.settings.pool.slots, built.settings.pool.cores);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(threads).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Ending::Internal;
        }
    };
    let enforcer = built.enforcer.clone();
    let ending = runtime.block_on(serve::serve(built)).unwrap_or_else(|error| {
        complain(&error);
        Ending::Internal
    });
    enforcer.close();
    // What still runs dies with this process.
    runtime.shutdown_background();
    ending
}

/// Slots that one thread of ours serves. A thread hands out some 50,000 short
/// batches in a second, and a second one costs more than it brings: each batch
/// then passes from one to the other, with a wake-up each time.
const SLOTS_PER_THREAD: usize = 8;

fn threads(slots: usize, cores: usize) -> usize {
    slots.div_ceil(SLOTS_PER_THREAD).clamp(1, cores.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_agents_have_one_thread_and_large_ones_no_more_than_cores() {
        assert_eq!(
            [(1, 64), (8, 64), (9, 64), (64, 4), (64, 0)].map(|(s, c)| threads(s, c)),
            [1, 1, 2, 4, 1]
        );
    }
}
