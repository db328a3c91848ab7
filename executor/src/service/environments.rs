//! The environments that an agent serves, and which of them fits a driver.

use clutch_protocol::v1;

use crate::failure::{Failure, Kind};
use crate::pool::{PythonEnvironment, Zygote, ZygoteState};

/// Every environment with its zygote, in the order of the settings.
#[derive(Debug, Clone)]
pub(crate) struct Environments {
    served: Vec<(PythonEnvironment, Zygote)>,
}

impl Environments {
    /// What this agent serves.
    pub(crate) const fn new(served: Vec<(PythonEnvironment, Zygote)>) -> Self {
        Self { served }
    }

    /// The index of the environment for a driver: the one it names, or the
    /// first with its own minor version.
    pub(super) fn choose(&self, driver: &v1::Environment, python: &str) -> Result<usize, Failure> {
        let minor = minor_version(&driver.python_version);
        let fits = |(environment, _): &(PythonEnvironment, Zygote)| {
            let named = python.is_empty() || environment.executable.as_os_str() == python;
            named
                && environment.implementation == driver.implementation
                && minor_version(&environment.python_version) == minor
        };
        self.served.iter().position(fits).ok_or_else(|| {
            let wanted = if python.is_empty() { String::new() } else { format!(" at `{python}`") };
            Failure::new(
                Kind::EnvironmentMismatch,
                format!(
                    "the driver runs {} {}, and this agent serves no {} {minor}{wanted}",
                    driver.implementation, driver.python_version, driver.implementation,
                ),
            )
        })
    }

    /// Waits for an environment's zygote, and checks that its packages
    /// understand what the driver's send.
    pub(super) async fn ready(
        &self,
        index: usize,
        driver: &v1::Environment,
    ) -> Result<v1::Environment, Failure> {
        let Some((environment, zygote)) = self.served.get(index) else {
            return Err(Failure::new(Kind::Internal, "an environment that is not there"));
        };
        match zygote.started().await {
            state @ ZygoteState::Ready { .. } => {
                let environment = describe(environment, &state);
                fits(driver, &environment).map(|()| environment)
            }
            ZygoteState::Failed(why) => Err(Failure::new(Kind::WorkerStartFailed, why)),
            ZygoteState::Starting => {
                Err(Failure::new(Kind::Internal, "a zygote that started and did not"))
            }
        }
    }

    /// All environments, as far as they are known.
    pub(super) fn describe(&self) -> Vec<v1::Environment> {
        self.served
            .iter()
            .map(|(environment, zygote)| describe(environment, &zygote.state()))
            .collect()
    }

    /// All environments with their zygotes.
    pub(super) fn status(&self) -> Vec<v1::EnvironmentStatus> {
        let status = |(environment, zygote): &(PythonEnvironment, Zygote)| {
            let state = zygote.state();
            let described = Some(describe(environment, &state));
            let (zygote_pid, warm_modules, problem) = match state {
                ZygoteState::Starting => (0, Vec::new(), String::new()),
                ZygoteState::Ready { pid, hello } => (pid.0, hello.warm_modules, String::new()),
                ZygoteState::Failed(why) => (0, Vec::new(), why),
            };
            v1::EnvironmentStatus { environment: described, zygote_pid, warm_modules, problem }
        };
        self.served.iter().map(status).collect()
    }

    /// The interpreter of an environment.
    pub(super) fn executable(&self, index: usize) -> String {
        let found = self.served.get(index);
        found
            .map(|(environment, _)| environment.executable.display().to_string())
            .unwrap_or_default()
    }
}

fn describe(environment: &PythonEnvironment, state: &ZygoteState) -> v1::Environment {
    let known = v1::Environment {
        python_version: environment.python_version.clone(),
        implementation: environment.implementation.clone(),
        executable: environment.executable.display().to_string(),
        ..v1::Environment::default()
    };
    match state {
        ZygoteState::Ready { hello, .. } => v1::Environment {
            cloudpickle_version: hello.cloudpickle_version.clone(),
            joblib_version: hello.joblib_version.clone(),
            packages: hello.packages.iter().cloned().collect(),
            ..known
        },
        ZygoteState::Starting | ZygoteState::Failed(_) => known,
    }
}

/// Checks what crosses the border in pickles. cloudpickle's functions are
/// rebuilt by the same major version only; joblib itself runs the nested calls.
fn fits(driver: &v1::Environment, agent: &v1::Environment) -> Result<(), Failure> {
    let refused = |what: String, install: String| {
        let python = &agent.executable;
        let message = format!("{what}; install it there: {python} -m pip install '{install}'");
        Err(Failure::new(Kind::EnvironmentMismatch, message))
    };
    let (ours, theirs) = (&agent.cloudpickle_version, &driver.cloudpickle_version);
    let executable = &agent.executable;
    if ours.is_empty() {
        return refused(
            format!("the driver has cloudpickle {theirs} and `{executable}` has none"),
            format!("cloudpickle=={theirs}"),
        );
    }
    if major_version(ours) != major_version(theirs) {
        return refused(
            format!("the driver has cloudpickle {theirs} and `{executable}` has {ours}"),
            format!("cloudpickle=={theirs}"),
        );
    }
    if agent.joblib_version.is_empty() {
        let theirs = &driver.joblib_version;
        return refused(
            format!("the driver has joblib {theirs} and `{executable}` has none"),
            format!("joblib=={theirs}"),
        );
    }
    Ok(())
}

/// `3` of `3.1.2`.
fn major_version(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// `3.11` of `3.11.7`.
fn minor_version(version: &str) -> &str {
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    dots.nth(1).map_or(version, |second| &version[..second])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(cloudpickle: &str, joblib: &str) -> v1::Environment {
        v1::Environment {
            executable: "/there/python".to_owned(),
            cloudpickle_version: cloudpickle.to_owned(),
            joblib_version: joblib.to_owned(),
            ..v1::Environment::default()
        }
    }

    #[test]
    fn packages_that_cannot_read_each_other_are_refused_with_what_to_install() {
        let driver = environment("3.1.2", "1.6.0");
        assert_eq!(fits(&driver, &environment("3.0.0", "1.3.2")), Ok(()));
        let cases = [
            (environment("", "1.6.0"), "'cloudpickle==3.1.2'"),
            (environment("2.2.1", "1.6.0"), "'cloudpickle==3.1.2'"),
            (environment("3.1.2", ""), "'joblib==1.6.0'"),
        ];
        for (agent, install) in cases {
            let failure = fits(&driver, &agent).unwrap_err();
            assert_eq!(failure.kind, Kind::EnvironmentMismatch);
            let command = format!("/there/python -m pip install {install}");
            assert!(failure.message.contains(&command), "{}", failure.message);
        }
    }

    #[test]
    fn the_minor_version_is_what_must_be_equal() {
        assert_eq!(minor_version("3.11.7"), "3.11");
        assert_eq!(minor_version("3.13.0rc1"), "3.13");
        assert_eq!(minor_version("3.11"), "3.11");
    }
}
