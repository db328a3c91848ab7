//! What the tasks of a worker are kept from, by Landlock.
//!
//! The agent asks the kernel at its start, by [`Sandbox::check`]. Each worker
//! shuts itself in, by [`Sandbox::enter`], after it was forked and before it
//! runs anything of a user's: in one that they had from their zygote, workers
//! could reach each other.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use landlock::{
    AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetError, Scope,
};

/// What tasks are kept from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing.
    #[default]
    Off,
    /// Processes other than those that they start: signals to them, a look
    /// into them, and their abstract Unix sockets.
    Processes,
    /// The same, and TCP.
    NoTcp,
}

/// A name that no sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `off`, `processes` or `no-tcp`")]
pub struct UnknownSandbox;

/// The kernel cannot keep tasks from all of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel does not offer it: that takes Linux 6.12 or newer with Landlock, `landlock` among \
     the `lsm=` that it was started with, and no filter of system calls in the way"
)]
pub struct Unsupported(#[from] RulesetError);

impl Sandbox {
    const ALL: [Self; 3] = [Self::Off, Self::Processes, Self::NoTcp];

    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Processes => "processes",
            Self::NoTcp => "no-tcp",
        }
    }

    /// Whether workers can enter it here.
    ///
    /// # Errors
    /// [`Unsupported`] when the kernel cannot do all of it.
    pub fn check(self) -> Result<(), Unsupported> {
        self.rules()?;
        Ok(())
    }

    /// Shuts this thread in for good, with all threads and processes that it
    /// starts from now on. They keep the connections that they have.
    ///
    /// # Errors
    /// [`Unsupported`] when the kernel cannot do all of it; then it does nothing.
    pub fn enter(self) -> Result<(), Unsupported> {
        if let Some(rules) = self.rules()? {
            rules.restrict_self()?;
        }
        Ok(())
    }

    /// Nothing is allowed of what the rules are about.
    fn rules(self) -> Result<Option<RulesetCreated>, RulesetError> {
        // Less than was asked for would be taken for all of it.
        let all_or_nothing = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let scoped = || all_or_nothing().scope(Scope::Signal | Scope::AbstractUnixSocket);
        match self {
            Self::Off => Ok(None),
            Self::Processes => scoped()?.create().map(Some),
            Self::NoTcp => {
                let tcp = AccessNet::BindTcp | AccessNet::ConnectTcp;
                scoped()?.handle_access(tcp)?.create().map(Some)
            }
        }
    }
}

impl Display for Sandbox {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Sandbox {
    type Err = UnknownSandbox;

    fn from_str(name: &str) -> Result<Self, UnknownSandbox> {
        Self::ALL.into_iter().find(|sandbox| sandbox.name() == name).ok_or(UnknownSandbox)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn a_sandbox_is_known_by_its_name() {
        for sandbox in Sandbox::ALL {
            assert_eq!(sandbox.to_string().parse(), Ok(sandbox));
        }
        for unknown in ["", "on", "Processes", "strict"] {
            assert_eq!(unknown.parse::<Sandbox>(), Err(UnknownSandbox));
        }
    }

    #[test]
    fn nothing_is_asked_of_the_kernel_for_none() {
        assert!(Sandbox::Off.check().is_ok() && Sandbox::Off.enter().is_ok());
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn can_signal(child: &Child) -> bool {
        let pid = i32::try_from(child.id()).unwrap();
        #[expect(unsafe_code, reason = "kill with no signal")]
        // SAFETY: signal 0 is delivered to nobody.
        let answer = unsafe { libc::kill(pid, 0) };
        answer == 0
    }

    fn can_connect(address: &SocketAddr) -> bool {
        match UnixStream::connect_addr(address) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                false
            }
        }
    }

    fn listen() -> (UnixListener, SocketAddr) {
        let name = format!("clutch-sandbox-{:?}", std::thread::current().id());
        let name = format!("{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        (UnixListener::bind_addr(&address).unwrap(), address)
    }

    /// What a thread reaches in a sandbox. The thread is gone with its sandbox.
    fn reached(sandbox: Sandbox) -> Vec<&'static str> {
        let mut outsider = sleeper();
        let (_listener, address) = listen();
        let found = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                sandbox.enter().unwrap();
                let mut own = sleeper();
                let (_own_listener, own_address) = listen();
                let found = [
                    ("an outsider", can_signal(&outsider)),
                    ("a child", can_signal(&own)),
                    ("a port", TcpListener::bind(("127.0.0.1", 0)).is_ok()),
                    ("a socket", can_connect(&address)),
                    ("a socket of its own", can_connect(&own_address)),
                ];
                own.kill().unwrap();
                own.wait().unwrap();
                found.into_iter().filter_map(|(what, reached)| reached.then_some(what)).collect()
            });
            inside.join().unwrap()
        });
        outsider.kill().unwrap();
        outsider.wait().unwrap();
        found
    }

    #[test]
    fn tasks_reach_what_is_theirs_and_what_their_sandbox_allows() {
        let all = ["an outsider", "a child", "a port", "a socket", "a socket of its own"];
        assert_eq!(reached(Sandbox::Off), all);
        // Without Landlock there is nothing to look at.
        if Sandbox::NoTcp.check().is_err() {
            return;
        }
        assert_eq!(reached(Sandbox::Processes), ["a child", "a port", "a socket of its own"]);
        assert_eq!(reached(Sandbox::NoTcp), ["a child", "a socket of its own"]);
    }
}
