//! Recorded machines.

use super::*;

const NONE: [Option<&str>; 5] = [None; 5];

const HYBRID_CGROUP: &str = "\
9:name=systemd:/
8:pids:/
7:blkio:/
6:freezer:/
5:devices:/
4:memory:/jobs/f8d0
3:cpuset:/
2:cpuacct:/
1:cpu:/
0::/
";
const HYBRID_MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

const DOCKER_V1_CGROUP: &str = "\
11:memory:/docker/0a1b
9:freezer:/docker/0a1b
5:cpu,cpuacct:/docker/0a1b
3:pids:/docker/0a1b
1:name=systemd:/docker/0a1b
";
const DOCKER_V1_MOUNTS: &str = "\
1200 1190 0:29 /docker/0a1b /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:14 - cgroup cgroup rw,memory
1201 1190 0:30 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec,relatime master:15 - cgroup cgroup rw,cpu,cpuacct
1202 1190 0:31 /docker/0a1b /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,pids
1203 1190 0:32 /docker/0a1b /sys/fs/cgroup/freezer ro,nosuid,nodev,noexec,relatime master:17 - cgroup cgroup rw,freezer
";

const USER_CGROUP: &str =
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u1.service\n";
const V2_MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
const POD_MOUNTS: &str = "\
1403 1398 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
";
const WSL_MOUNTS: &str = "\
60 59 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:3 - cgroup2 cgroup2 rw
97 75 0:30 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs
";

/// Name, the two files, and where the groups are: version 2, memory, CPU, CPU
/// time, processes, freezer.
type Case =
    (&'static str, &'static str, &'static str, Option<&'static str>, [Option<&'static str>; 5]);

const CASES: [Case; 9] = [
    (
        "both versions",
        HYBRID_CGROUP,
        HYBRID_MOUNTS,
        Some("/sys/fs/cgroup/unified"),
        [
            Some("/sys/fs/cgroup/memory/jobs/f8d0"),
            Some("/sys/fs/cgroup/cpu"),
            Some("/sys/fs/cgroup/cpuacct"),
            Some("/sys/fs/cgroup/pids"),
            Some("/sys/fs/cgroup/freezer"),
        ],
    ),
    (
        "a container of version 1, which sees a part of each hierarchy",
        DOCKER_V1_CGROUP,
        DOCKER_V1_MOUNTS,
        None,
        [
            Some("/sys/fs/cgroup/memory"),
            Some("/sys/fs/cgroup/cpu,cpuacct"),
            Some("/sys/fs/cgroup/cpu,cpuacct"),
            Some("/sys/fs/cgroup/pids"),
            Some("/sys/fs/cgroup/freezer"),
        ],
    ),
    (
        "a user's service of systemd",
        USER_CGROUP,
        V2_MOUNTS,
        Some(concat!(
            "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service",
            "/app.slice/run-u1.service"
        )),
        NONE,
    ),
    ("the root of version 2", "0::/\n", V2_MOUNTS, Some("/sys/fs/cgroup"), NONE),
    ("a pod that may only read", "0::/\n", POD_MOUNTS, Some("/sys/fs/cgroup"), NONE),
    ("WSL", "0::/init.scope\n", WSL_MOUNTS, Some("/sys/fs/cgroup/init.scope"), NONE),
    ("a namespace that this process is outside of", "0::/../../a\n", V2_MOUNTS, None, NONE),
    ("nothing mounted", HYBRID_CGROUP, "22 27 0:21 / /proc rw - proc proc rw\n", None, NONE),
    ("no control groups", "", "", None, NONE),
];

#[test]
fn groups_are_found_on_recorded_machines() {
    for (name, own, mounts, v2, v1) in CASES {
        let found = Hierarchies::parse(own, mounts);
        assert_eq!(found.v2.as_deref(), v2.map(Path::new), "{name}");
        let controllers = CONTROLLERS.map(|(controller, _)| found.v1(controller));
        assert_eq!(controllers, v1.map(|path| path.map(Path::new)), "{name}");
    }
}

#[test]
fn a_mount_that_can_be_written_comes_first_and_a_foreign_part_never() {
    let mounts = "\
1 0 0:26 / /ro ro - cgroup2 cgroup2 rw
2 0 0:26 /else /else rw - cgroup2 cgroup2 rw
3 0 0:26 /a /with\\040space rw - cgroup2 cgroup2 rw
";
    let found = Hierarchies::parse("0::/a/b:c\n", mounts);
    assert_eq!(found.v2, Some(PathBuf::from("/with space/b:c")));
}

#[test]
fn whatever_the_files_hold_is_survived() {
    for own in ["::", "0:", "x", "4:memory", "0::relative", "0::/\u{0}"] {
        for mounts in
            ["- cgroup2", " - ", "1 2 3 / / rw - cgroup2", "a b c \\9 \\ rw - cgroup2 c rw"]
        {
            assert_eq!(Hierarchies::parse(own, mounts), Hierarchies::default(), "{own} {mounts}");
        }
    }
}
