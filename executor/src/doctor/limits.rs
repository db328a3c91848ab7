//! What holds limits, in words.

use std::fmt::Write;

use crate::limits::{Enforcement, LimitOptions, Mechanism};

/// A few paragraphs, the last line ended.
pub(super) fn report(
    enforcement: &Enforcement,
    notes: &[String],
    options: &LimitOptions,
) -> String {
    let mut text = "What holds limits here\n".to_owned();
    let rows = [
        ("memory", enforcement.memory),
        ("CPUs", enforcement.cpus),
        ("processes", enforcement.processes),
    ];
    for (what, by) in rows {
        line(&mut text, format_args!("  {what:<20}{:<12}{}", by.name(), meaning(by)));
    }
    let (by, how) = left(enforcement.kill);
    line(&mut text, format_args!("  {:<20}{by:<12}{how}", "what a task leaves"));
    line(&mut text, format_args!("  {:<20}{:<12}{}", "open files", "rlimit", "by the kernel"));
    line(&mut text, format_args!("  {:<20}{:<12}{}", "scratch directory", "sampling", SAMPLING));

    line(&mut text, format_args!("\nAsked for all workers together"));
    match enforcement.memory_ceiling_bytes {
        Some(bytes) => line(&mut text, format_args!("  memory ceiling      {bytes} bytes")),
        None => line(&mut text, format_args!("  memory ceiling      none; the machine's memory")),
    }
    match options.cpu_weight {
        Some(weight) => line(
            &mut text,
            format_args!("  weight of CPUs      {weight:.2}, where any other group has 1"),
        ),
        None => line(&mut text, format_args!("  weight of CPUs      as any other program")),
    }
    list(&mut text, "What is therefore not promised", &enforcement.cannot);
    list(&mut text, "What could not be used", notes);
    text
}

const SAMPLING: &str = "by the agent, which looks several times a second";

const fn meaning(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::CgroupV2 => "by the kernel, control groups of version 2",
        Mechanism::CgroupV1 => "by the kernel, control groups of version 1",
        Mechanism::Sampling => SAMPLING,
        Mechanism::Affinity => "by the kernel, as the CPUs that a worker may run on",
    }
}

/// Looks find it, too, but nothing is counted.
const fn left(mechanism: Mechanism) -> (&'static str, &'static str) {
    match mechanism {
        Mechanism::CgroupV2 | Mechanism::CgroupV1 => (mechanism.name(), meaning(mechanism)),
        Mechanism::Sampling | Mechanism::Affinity => {
            (mechanism.name(), "by the agent, which walks the tree below a worker")
        }
    }
}

fn list(text: &mut String, title: &str, sentences: &[String]) {
    line(text, format_args!("\n{title}"));
    if sentences.is_empty() {
        line(text, format_args!("  nothing"));
    }
    for sentence in sentences {
        line(text, format_args!("  - {sentence}"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(text, "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{RawSettings, Settings};

    #[test]
    fn a_report_says_by_what_and_what_not_and_why() {
        let python = vec!["/bin/sh".into()];
        let raw = RawSettings { python, machine_share: Some(0.5), ..RawSettings::default() };
        let options = Settings::resolve(raw).unwrap().limits;
        let enforcement = Enforcement {
            memory: Mechanism::CgroupV2,
            cpus: Mechanism::Affinity,
            processes: Mechanism::Sampling,
            kill: Mechanism::CgroupV1,
            cannot: vec!["CPUs are whole".to_owned()],
            memory_ceiling_bytes: Some(4096),
        };
        let text = report(&enforcement, &["no `cpu`".to_owned()], &options);
        for expected in [
            "  memory              cgroup-v2   by the kernel, control groups of version 2\n",
            "  CPUs                affinity    by the kernel, as the CPUs",
            "  memory ceiling      4096 bytes\n",
            "  weight of CPUs      1.00, where any other group has 1\n",
            "\nWhat is therefore not promised\n  - CPUs are whole\n",
            "\nWhat could not be used\n  - no `cpu`\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let nothing = Enforcement { cannot: Vec::new(), ..enforcement };
        assert!(report(&nothing, &[], &options).contains("not promised\n  nothing\n"));
    }
}
