//! How a process ended, in words.

use super::reaper::Exit;

/// The end of a process in words, for example `was killed by SIGSEGV (11)`.
pub(super) fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(signal) => match signal_name(signal) {
            Some(name) => format!("was killed by {name} ({signal})"),
            None => format!("was killed by signal {signal}"),
        },
    }
}

const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGALRM => "SIGALRM",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_number_and_its_name() {
        assert_eq!(ended(Exit::Code(0)), "exited with code 0");
        assert_eq!(ended(Exit::Signal(libc::SIGSEGV)), "was killed by SIGSEGV (11)");
        assert_eq!(ended(Exit::Signal(35)), "was killed by signal 35");
    }
}
